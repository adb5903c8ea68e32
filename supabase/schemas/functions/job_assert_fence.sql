-- For SQL functions that write on behalf of a run: call it first in the same transaction. The run cannot be claimed by
-- somebody else before that transaction ends.
--   raises  JB003 job_fence_stale (permanent): the run ended, or somebody else claimed it
create or replace function worker.job_assert_fence(p_run uuid, p_fence bigint) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform from worker.job_runs where id = p_run and fence = p_fence and status = 'running' for share;
  if not found then
    raise exception 'job_fence_stale' using errcode = 'JB003';
  end if;
end $$;
revoke all on function worker.job_assert_fence from public, anon, authenticated;
grant execute on function worker.job_assert_fence to service_role;
