-- The last report of a shard in a run and the end of its lease, in one call.
--   p_fence   fence of the lease, or null without one; a later lease stays
--   p_state   done | failed
--   returns   as usage_report_shard does
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_finish_shard(p_run uuid, p_shard int, p_fence bigint, p_state text,
  p_error text default null) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform worker.usage_release_shard(p_shard, p_fence) where p_fence is not null;
  return worker.usage_report_shard(p_run, p_shard, p_state, p_error);
end $$;
revoke all on function worker.usage_finish_shard from public, anon, authenticated;
grant execute on function worker.usage_finish_shard to service_role;
