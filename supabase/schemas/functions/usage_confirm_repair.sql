-- The counters of a shard were corrected, and with p_run the shard is done in that run. Repeating it changes nothing. When the confirmation is lost, the next
-- comparison settles the correction: Redis names the last one that was applied.
--   returns  {status: applied | superseded | unknown}
create or replace function worker.usage_confirm_repair(p_shard int, p_repair uuid, p_run uuid default null)
returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status text;
begin
  perform from worker.usage_shards where shard = p_shard for update;
  perform worker.usage_settle_repair(p_repair, true);
  select status into v_status from worker.usage_repairs where repair_id = p_repair;
  if v_status = 'applied' then
    update worker.usage_shards set consolidated_at = now() where shard = p_shard;
  end if;
  if p_run is not null then
    perform worker.usage_report_shard(p_run, p_shard, 'done');
  end if;
  return jsonb_build_object('status', coalesce(v_status, 'unknown'));
end $$;
revoke all on function worker.usage_confirm_repair from public, anon, authenticated;
grant execute on function worker.usage_confirm_repair to service_role;
