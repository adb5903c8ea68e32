-- Part of usage_consolidate_shard: a dry run writes what it found and changes nothing else. Repeating it in one run
-- replaces the findings of the shard.
create or replace function worker.usage_note_drifts(p_run uuid, p_shard int, p_inc text, p_n bigint,
  p_found worker.usage_drift_finding[]) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  delete from worker.usage_drifts where run_id = p_run and shard = p_shard and state = 'found';
  insert into worker.usage_drifts (run_id, last_run_id, shard, tenant, period, inc, n, redis, used, drift, cause, repair,
    state, evidence)
  select p_run, p_run, p_shard, tenant, period, p_inc, p_n, redis, used, drift, cause, repair, 'found',
         evidence || jsonb_build_object('would', state)
    from unnest(p_found);
  return worker.usage_sum_drifts(p_found);
end $$;
revoke all on function worker.usage_note_drifts from public, anon, authenticated;
grant execute on function worker.usage_note_drifts to service_role;
