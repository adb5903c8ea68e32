-- How many findings of a kind a run may still list. A lost Redis makes a finding of every counter.
create or replace function worker.usage_legacy_findings_left(p_run uuid, p_kind text) returns bigint
language sql stable security invoker set search_path = '' as $$
  select greatest(0, 1000 - count(*)) from worker.usage_legacy_findings where run_id = p_run and kind = p_kind
$$;
revoke all on function worker.usage_legacy_findings_left from public, anon, authenticated;
grant execute on function worker.usage_legacy_findings_left to service_role;
