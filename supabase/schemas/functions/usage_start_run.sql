-- Records a planned reconciliation. Idempotent per run id. A run without shards has nothing to do and is finished.
--   p_trigger   timer | manual
--   p_shards    [{shard, pending: records waiting}], at most 4096
--   p_tracking  whether usage tracking is switched on
--   returns     {status: started | known}
--   raises      UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_start_run(p_run uuid, p_job text, p_trigger text, p_shards jsonb,
  p_tracking boolean default true) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_shards int := jsonb_array_length(p_shards);
begin
  if v_shards > 4096 then
    raise exception 'usage_argument_invalid: more than 4096 shards' using errcode = 'UL001';
  end if;
  insert into worker.usage_runs (run_id, job, trigger, tracking, shards, pending, status, finished_at)
  select p_run, p_job, p_trigger, p_tracking, v_shards,
         coalesce((select sum((e ->> 'pending')::bigint) from jsonb_array_elements(p_shards) e), 0),
         case when v_shards = 0 then 'succeeded' else 'planned' end,
         case when v_shards = 0 then now() end
  on conflict on constraint usage_runs_pkey do nothing;
  if not found then
    return jsonb_build_object('status', 'known');
  end if;
  insert into worker.usage_run_shards (run_id, shard, pending)
  select p_run, shard, pending from jsonb_to_recordset(p_shards) as e (shard int, pending bigint);
  return jsonb_build_object('status', 'started');
end $$;
revoke all on function worker.usage_start_run from public, anon, authenticated;
grant execute on function worker.usage_start_run to service_role;
