-- One item with its story and with what it may wait for.
--   returns  the row of work_row and {payload, result, progress, evidence, fence, staleWrites, cancelRequestedAt,
--            cancelledBy, cancelReason, leaseUntil, sentAt, isDue, isLeaseOver, sentSeconds, runningOfTenant,
--            history: last 50 of [{fence, attempt, worker, startedAt, endedAt, outcome, code, error}],
--            replayIds: last 20}; null = no such item
create or replace function worker.work_read(p_id uuid) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select worker.work_row(i) || jsonb_build_object('payload', i.payload, 'result', i.result, 'progress', i.progress,
      'evidence', i.evidence, 'fence', i.fence::text, 'staleWrites', i.stale_writes,
      'cancelRequestedAt', i.cancel_requested_at, 'cancelledBy', i.cancelled_by, 'cancelReason', i.cancel_reason,
      'leaseUntil', i.lease_until, 'sentAt', i.sent_at, 'isDue', i.due_at <= clock_timestamp(),
      'isLeaseOver', coalesce(i.lease_until < clock_timestamp(), false),
      'sentSeconds', floor(extract(epoch from clock_timestamp() - greatest(i.sent_at, i.due_at)))::bigint,
      'runningOfTenant', (select count(*) from worker.work_items
                           where kind = i.kind and tenant = i.tenant and state = 'running'),
      'history', coalesce((
        select jsonb_agg(jsonb_build_object('fence', a.fence::text, 'attempt', a.attempt, 'worker', a.worker,
                 'startedAt', a.started_at, 'endedAt', a.ended_at, 'outcome', a.outcome, 'code', a.code,
                 'error', a.error) order by a.fence)
          from (select * from worker.work_attempts where item_id = i.id order by fence desc limit 50) a), '[]'),
      'replayIds', coalesce((
        select jsonb_agg(r.replay_id) from (
          select ri.replay_id from worker.work_replay_items ri join worker.work_replays wr on wr.id = ri.replay_id
           where ri.item_id = i.id order by wr.created_at desc limit 20) r), '[]'))
    from worker.work_items i where i.id = p_id
$$;
revoke all on function worker.work_read from public, anon, authenticated;
grant execute on function worker.work_read to service_role;
