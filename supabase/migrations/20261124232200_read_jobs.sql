-- Why: the management API and the status show what the ledger of occurrences knows.
-- Lock: none; only functions, and all are new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

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

-- What the ledger knows about jobs: state, the run that works, the one that waits, the newest that ended, and the counts and
-- durations of recent runs. Reads a bounded part of the history, however long that is.
--   p_job       only this one; null = all
--   p_runs_max  newest rows of each job that are counted, 1 .. 5,000
--   returns  {now, jobs: [{id, schedule, isEnabled, disabledAt, disabledBy, disabledReason, plannedFrom, lastSlotAt, lastTickAt,
--            running: {runId, startedAt, leaseUntil, claimedBy, progress} | null, waiting: {runId, startAfter, reason,
--            failures, crashes, errorCode, trigger} | null, last: {runId, status, reason, errorCode, dueAt, startedAt, finishedAt,
--            durationMs} | null, stats: {since, succeeded, failed, missed, skipped, avgMs, minMs, maxMs, p50Ms, p95Ms}}]};
--            failed counts abandoned runs too; durations are those of runs that succeeded or failed; last = newest that
--            succeeded, failed, was missed, abandoned or cancelled
create or replace function worker.job_read_jobs(p_job text default null, p_runs_max int default 500) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('now', clock_timestamp(), 'jobs', coalesce(jsonb_agg(jsonb_build_object('id', j.id,
      'schedule', j.schedule, 'isEnabled', j.is_enabled, 'disabledAt', j.disabled_at, 'disabledBy', j.disabled_by,
      'disabledReason', j.disabled_reason, 'plannedFrom', j.planned_from, 'lastSlotAt', j.last_slot_at,
      'lastTickAt', j.last_tick_at, 'running', running.found, 'waiting', waiting.found, 'last', newest.found,
      'stats', stats.found) order by j.id), '[]'))
    from worker.jobs j
    left join lateral (
      select jsonb_build_object('runId', r.id, 'startedAt', r.started_at, 'leaseUntil', r.lease_until,
               'claimedBy', r.claimed_by, 'progress', r.progress) as found
        from worker.job_runs r
       where r.job_id = j.id and r.status = 'running'
       order by r.started_at limit 1) running on true
    left join lateral (
      select jsonb_build_object('runId', r.id, 'startAfter', r.start_after, 'reason', r.reason, 'failures', r.failures,
               'crashes', r.crashes, 'errorCode', r.error_code, 'trigger', r.trigger) as found
        from worker.job_runs r
       where r.job_id = j.id and r.status = 'queued'
       order by r.start_after limit 1) waiting on true
    left join lateral (
      select jsonb_build_object('runId', r.id, 'status', r.status, 'reason', r.reason, 'errorCode', r.error_code,
               'dueAt', r.due_at, 'startedAt', r.started_at, 'finishedAt', r.finished_at,
               'durationMs', r.duration_ms) as found
        from (select * from worker.job_runs
               where job_id = j.id
               order by due_at desc, id desc limit least(greatest(p_runs_max, 1), 5000)) r
       where r.status in ('succeeded', 'failed', 'missed', 'abandoned', 'cancelled')
       order by r.due_at desc limit 1) newest on true
    left join lateral (
      select jsonb_build_object('since', min(r.due_at),
               'succeeded', count(*) filter (where r.status = 'succeeded'),
               'failed', count(*) filter (where r.status in ('failed', 'abandoned')),
               'missed', count(*) filter (where r.status = 'missed'),
               'skipped', count(*) filter (where r.status = 'skipped'),
               'avgMs', round(avg(r.ms)), 'minMs', min(r.ms), 'maxMs', max(r.ms),
               'p50Ms', percentile_disc(0.5) within group (order by r.ms),
               'p95Ms', percentile_disc(0.95) within group (order by r.ms)) as found
        from (select due_at, status,
                     case when status in ('succeeded', 'failed', 'abandoned') then duration_ms end as ms
                from worker.job_runs
               where job_id = j.id
               order by due_at desc, id desc limit least(greatest(p_runs_max, 1), 5000)) r) stats on true
   where p_job is null or j.id = p_job
$$;
revoke all on function worker.job_read_jobs from public, anon, authenticated;
grant execute on function worker.job_read_jobs to service_role;

-- The history of a job, newest first.
--   p_status      only runs in this status; null = all
--   p_before_due, p_before_id  of the last row of the page before; null = from the newest
--   p_limit       1 .. 200
--   returns  {rows: [job_run_row], next: {dueAt, id} | null}
create or replace function worker.job_read_runs(p_job text, p_status text default null,
  p_before_due timestamptz default null, p_before_id uuid default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select r as run, r.due_at, r.id from worker.job_runs r
     where r.job_id = p_job and (p_status is null or r.status = p_status)
       and (p_before_due is null or (r.due_at, r.id) < (p_before_due, p_before_id))
     order by r.due_at desc, r.id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(worker.job_run_row(run) order by due_at desc, id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then (
        select jsonb_build_object('dueAt', due_at, 'id', id) from page order by due_at, id limit 1) end)
    from page
$$;
revoke all on function worker.job_read_runs from public, anon, authenticated;
grant execute on function worker.job_read_runs to service_role;

-- One run of a job.
--   returns  job_run_row; null = no such run of this job
create or replace function worker.job_read_run(p_job text, p_run uuid) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select worker.job_run_row(r) from worker.job_runs r where r.id = p_run and r.job_id = p_job
$$;
revoke all on function worker.job_read_run from public, anon, authenticated;
grant execute on function worker.job_read_run to service_role;

-- Runs, errors, rates and durations of each job in a window that ends now.
--   p_hours  1 .. 168; of each job at most the newest 20,000 rows are counted
--   returns  {now, since, jobs: [{id, runs, succeeded, failed, abandoned, cancelled, skipped, missed, caughtUp, open, errorRate,
--            avgMs, minMs, maxMs, p50Ms, p95Ms, lateP95Ms, isCapped}]}; runs = those that worked and ended; errorRate = share of
--            failed and abandoned among them, null without any
create or replace function worker.job_read_stats(p_hours int) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with clock as (
    select now() as now, now() - least(greatest(p_hours, 1), 168) * interval '1 hour' as since),
  counted as (
    select j.id,
           count(*) filter (where r.status in ('succeeded', 'failed', 'abandoned')) as runs,
           count(*) filter (where r.status = 'succeeded') as succeeded,
           count(*) filter (where r.status = 'failed') as failed,
           count(*) filter (where r.status = 'abandoned') as abandoned,
           count(*) filter (where r.status = 'cancelled') as cancelled,
           count(*) filter (where r.status = 'skipped') as skipped,
           count(*) filter (where r.status = 'missed') as missed,
           count(*) filter (where r.status = 'caught_up') as caught_up,
           count(*) filter (where r.status in ('queued', 'running')) as open,
           round(avg(r.ms)) as avg_ms, min(r.ms) as min_ms, max(r.ms) as max_ms,
           percentile_disc(0.5) within group (order by r.ms) as p50_ms,
           percentile_disc(0.95) within group (order by r.ms) as p95_ms,
           percentile_disc(0.95) within group (order by r.late_ms) as late_p95_ms,
           count(*) = 20000 as is_capped
      from worker.jobs j
      cross join clock c
      left join lateral (
        select status, late_ms, case when status in ('succeeded', 'failed', 'abandoned') then duration_ms end as ms
          from worker.job_runs
         where job_id = j.id and due_at >= c.since
         order by due_at desc, id desc limit 20000) r on true
     group by j.id)
  select jsonb_build_object('now', c.now, 'since', c.since, 'jobs', coalesce((
      select jsonb_agg(jsonb_build_object('id', id, 'runs', runs, 'succeeded', succeeded, 'failed', failed,
        'abandoned', abandoned, 'cancelled', cancelled, 'skipped', skipped, 'missed', missed, 'caughtUp', caught_up,
        'open', open, 'errorRate', round((failed + abandoned) / nullif(runs, 0)::numeric, 4), 'avgMs', avg_ms,
        'minMs', min_ms, 'maxMs', max_ms, 'p50Ms', p50_ms, 'p95Ms', p95_ms, 'lateP95Ms', late_p95_ms,
        'isCapped', is_capped) order by id) from counted), '[]'))
    from clock c
$$;
revoke all on function worker.job_read_stats from public, anon, authenticated;
grant execute on function worker.job_read_stats to service_role;
