-- When a job last ran, for the health checks.
--   returns  {installedAt, lastStartedAt, lastFinishedAt, lastStatus}; null = never
create or replace function worker.usage_read_scheduler(p_job text) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('installedAt', i.installed_at, 'lastStartedAt', started.started_at,
           'lastStatus', started.status, 'lastFinishedAt', finished.finished_at)
    from worker.installations i
    left join lateral (
      select started_at, status from worker.usage_runs
       where job = p_job
       order by started_at desc
       limit 1) started on true
    left join lateral (
      select finished_at from worker.usage_runs
       where job = p_job and finished_at is not null
       order by started_at desc
       limit 1) finished on true
$$;
revoke all on function worker.usage_read_scheduler from public, anon, authenticated;
grant execute on function worker.usage_read_scheduler to service_role;
