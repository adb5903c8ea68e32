-- One run of a job.
--   returns  job_run_row; null = no such run of this job
create or replace function worker.job_read_run(p_job text, p_run uuid) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select worker.job_run_row(r) from worker.job_runs r where r.id = p_run and r.job_id = p_job
$$;
revoke all on function worker.job_read_run from public, anon, authenticated;
grant execute on function worker.job_read_run to service_role;
