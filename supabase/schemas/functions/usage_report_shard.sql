-- What became of a shard in a run. The numbers come from the batches of the run, so a repeated report cannot double
-- them. The state only moves forward: planned, running, failed, done; a failed shard that is sent again may still be
-- done. The run ends with its last shard.
--   p_state   running | failed | done
--   p_error   error code of a failed shard
--   returns   {status: ok, run: status of the run, finished: this report ended it} | {status: unknown}
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_report_shard(p_run uuid, p_shard int, p_state text, p_error text default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_order constant text[] := array['planned', 'running', 'failed', 'done'];
  v_before text;
  v_after text;
begin
  if coalesce(p_state, '') not in ('running', 'failed', 'done') then
    raise exception 'usage_argument_invalid: p_state must be running, failed or done' using errcode = 'UL001';
  end if;
  -- The lock on the run orders the reports of its shards: one of them sees that it is the last.
  select status into v_before from worker.usage_runs where run_id = p_run for update;
  update worker.usage_run_shards r
     set state = v_order[greatest(array_position(v_order, r.state), array_position(v_order, p_state))],
         applied = b.applied, dup = b.dup, bad = b.bad, tokens = b.tokens, batches = b.batches,
         error_code = case p_state when 'failed' then p_error when 'done' then null else r.error_code end,
         updated_at = now()
    from (select coalesce(sum(applied), 0) as applied, coalesce(sum(dup), 0) as dup, coalesce(sum(bad), 0) as bad,
                 coalesce(sum(tokens), 0) as tokens, count(*) as batches
            from worker.usage_batches where run_id = p_run and shard = p_shard) b
   where r.run_id = p_run and r.shard = p_shard;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  select case when bool_or(state in ('planned', 'running')) then 'running'
              when bool_or(state = 'failed') then 'failed'
              else 'succeeded' end
    into v_after from worker.usage_run_shards where run_id = p_run;
  update worker.usage_runs
     set status = v_after, finished_at = case when v_after <> 'running' then now() end
   where run_id = p_run and status <> v_after;
  return jsonb_build_object('status', 'ok', 'run', v_after, 'finished', v_after <> v_before and v_after <> 'running');
end $$;
revoke all on function worker.usage_report_shard from public, anon, authenticated;
grant execute on function worker.usage_report_shard to service_role;
