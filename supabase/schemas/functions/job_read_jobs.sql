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
