-- A difference as the readers show it; amounts and ids as text.
create or replace function worker.usage_drift_row(p_drift worker.usage_drifts) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('id', p_drift.id::text, 'runId', p_drift.run_id, 'lastRunId', p_drift.last_run_id,
    'shard', p_drift.shard, 'tenant', p_drift.tenant, 'period', p_drift.period, 'lineage', p_drift.inc,
    'n', p_drift.n::text, 'redis', p_drift.redis::text, 'used', p_drift.used::text, 'drift', p_drift.drift::text,
    'cause', p_drift.cause, 'repair', p_drift.repair, 'state', p_drift.state, 'evidence', p_drift.evidence,
    'decisions', p_drift.decisions, 'detectedAt', p_drift.detected_at, 'seenAt', p_drift.seen_at,
    'repairedAt', p_drift.repaired_at)
$$;
revoke all on function worker.usage_drift_row from public, anon, authenticated;
grant execute on function worker.usage_drift_row to service_role;
