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
