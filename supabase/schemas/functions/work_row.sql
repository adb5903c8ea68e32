-- An item as lists show it. Numbers that may pass 2^53 are text.
create or replace function worker.work_row(i worker.work_items) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('id', i.id, 'seq', i.seq::text, 'kind', i.kind, 'version', i.version, 'tenant', i.tenant,
    'priority', i.priority, 'state', i.state, 'attempts', i.attempts, 'failures', i.failures, 'crashes', i.crashes,
    'maxAttempts', i.max_attempts, 'replays', i.replays, 'code', i.code, 'error', i.error, 'dueAt', i.due_at,
    'createdAt', i.created_at, 'updatedAt', i.updated_at, 'startedAt', i.started_at, 'finishedAt', i.finished_at,
    'requestedBy', i.requested_by, 'dedupeKey', i.dedupe_key)
$$;
revoke all on function worker.work_row from public, anon, authenticated;
grant execute on function worker.work_row to service_role;
