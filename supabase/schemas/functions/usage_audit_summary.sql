-- An audit as its readers see it.
--   returns  {auditId, period, trigger, requestedBy, status, periodState, percent, tenants, total, ledger, used, found,
--            pruned, differences, causes: {cause: {findings, tokens, largest}}, errorCode, startedAt, finishedAt};
--            amounts as text
create or replace function worker.usage_audit_summary(p_audit worker.usage_audits) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('auditId', p_audit.audit_id, 'period', p_audit.period, 'trigger', p_audit.trigger,
    'requestedBy', p_audit.requested_by, 'status', p_audit.status, 'periodState', p_audit.period_state,
    'percent', least(100, round(p_audit.next_shard * 100.0 / 256, 1)), 'tenants', p_audit.tenants::text,
    'total', p_audit.total::text, 'ledger', p_audit.ledger::text, 'used', p_audit.used::text,
    'found', p_audit.found::text, 'pruned', p_audit.pruned::text, 'differences', p_audit.differences::text,
    'causes', p_audit.causes, 'errorCode', p_audit.error_code, 'startedAt', p_audit.started_at,
    'finishedAt', p_audit.finished_at)
$$;
revoke all on function worker.usage_audit_summary from public, anon, authenticated;
grant execute on function worker.usage_audit_summary to service_role;
