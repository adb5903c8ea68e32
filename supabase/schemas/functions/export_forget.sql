-- Forgets an export whose blobs are gone.
create or replace function worker.export_forget(p_week date, p_run uuid, p_fence bigint) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform worker.job_assert_fence(p_run, p_fence);
  delete from worker.exports where week = p_week;
end $$;
revoke all on function worker.export_forget from public, anon, authenticated;
grant execute on function worker.export_forget to service_role;
