-- The jobs of a day: what their slots and manual runs became.
--   returns  [{id, slots, succeeded, failed, skipped, missed, caughtUp, abandoned, cancelled, open, p50Ms, p95Ms, maxMs,
--            lateMaxMs, errors: {code: runs}}]; durations null when nothing ended
create or replace function worker.report_read_jobs(p_day date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with runs as (
    select * from worker.job_runs
     where due_at >= p_day::timestamp at time zone 'UTC' and due_at < (p_day + 1)::timestamp at time zone 'UTC'
  ), stats as (
    select job_id, count(*) as slots,
           count(*) filter (where status = 'succeeded') as succeeded,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'skipped') as skipped,
           count(*) filter (where status = 'missed') as missed,
           count(*) filter (where status = 'caught_up') as caught_up,
           count(*) filter (where status = 'abandoned') as abandoned,
           count(*) filter (where status = 'cancelled') as cancelled,
           count(*) filter (where status in ('queued', 'running')) as open,
           round(percentile_cont(0.5) within group (order by duration_ms)) as p50_ms,
           round(percentile_cont(0.95) within group (order by duration_ms)) as p95_ms,
           max(duration_ms) as max_ms, max(late_ms) as late_max_ms
      from runs group by job_id
  ), errors as (
    select job_id, jsonb_object_agg(error_code, runs) as by_code
      from (select job_id, error_code, count(*) as runs from runs where error_code is not null group by 1, 2) as e
     group by job_id)
  select coalesce(jsonb_agg(jsonb_build_object('id', s.job_id, 'slots', slots, 'succeeded', succeeded, 'failed', failed,
      'skipped', skipped, 'missed', missed, 'caughtUp', caught_up, 'abandoned', abandoned, 'cancelled', cancelled,
      'open', open, 'p50Ms', p50_ms, 'p95Ms', p95_ms, 'maxMs', max_ms, 'lateMaxMs', late_max_ms,
      'errors', coalesce(e.by_code, '{}')) order by s.job_id), '[]')
    from stats s left join errors e using (job_id)
$$;
revoke all on function worker.report_read_jobs from public, anon, authenticated;
grant execute on function worker.report_read_jobs to service_role;
