-- A run as the API shows it.
create or replace function worker.job_run_row(r worker.job_runs) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('runId', r.id, 'jobId', r.job_id, 'slotAt', r.slot_at, 'dueAt', r.due_at, 'trigger', r.trigger,
    'status', r.status, 'reason', r.reason, 'reasonText', r.reason_text, 'attempt', r.attempt, 'failures', r.failures,
    'crashes', r.crashes, 'staleAttempts', r.stale_attempts, 'claimedBy', r.claimed_by, 'startAfter', r.start_after,
    'startedAt', r.started_at, 'heartbeatAt', r.heartbeat_at, 'leaseUntil', r.lease_until, 'finishedAt', r.finished_at,
    'durationMs', r.duration_ms, 'lateMs', r.late_ms, 'skewMs', r.skew_ms, 'progress', r.progress, 'report', r.report,
    'errorCode', r.error_code, 'errorText', r.error_text, 'coveredBy', r.covered_by,
    'requestedBy', r.requested_by, 'requestedReason', r.requested_reason, 'cancelRequestedAt', r.cancel_requested_at,
    'cancelRequestedBy', r.cancel_requested_by, 'cancelReason', r.cancel_reason)
$$;
revoke all on function worker.job_run_row from public, anon, authenticated;
grant execute on function worker.job_run_row to service_role;
