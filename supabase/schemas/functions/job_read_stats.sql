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
