-- One audit, or null.
create or replace function worker.usage_read_audit(p_audit uuid) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select worker.usage_audit_summary(a) from worker.usage_audits a where audit_id = p_audit
$$;
revoke all on function worker.usage_read_audit from public, anon, authenticated;
grant execute on function worker.usage_read_audit to service_role;
