-- How far the slots of every job are written down, for health checks.
--   returns  {now, installedAt, jobs: [{id, isEnabled, since}]}; since = slots up to here have a row or are nobody's
create or replace function worker.job_read_scheduler() returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('now', now(), 'installedAt', (select installed_at from worker.installations),
    'jobs', (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'isEnabled', is_enabled,
               'since', greatest(last_slot_at, planned_from)) order by id), '[]') from worker.jobs))
$$;
revoke all on function worker.job_read_scheduler from public, anon, authenticated;
grant execute on function worker.job_read_scheduler to service_role;
