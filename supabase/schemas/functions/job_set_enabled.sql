-- Enables or disables a job, at once on every instance: claims look here. A run that works goes on. What already is so
-- changes nothing.
--   returns  {kind: changed | already, isEnabled, disabledAt, disabledBy, disabledReason}
--   raises   JB001 job_argument_invalid · JB002 job_unknown (permanent)
create or replace function worker.job_set_enabled(p_job text, p_enabled boolean, p_who text, p_reason text,
  p_request_id text default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now timestamptz;
  j worker.jobs;
  v_kind text := 'already';
begin
  if p_enabled is null or coalesce(length(p_who), 0) not between 1 and 200 or length(p_reason) > 500 then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into j from worker.jobs where id = p_job for no key update;
  if not found then
    raise exception 'job_unknown' using errcode = 'JB002';
  end if;
  v_now := clock_timestamp();
  if j.is_enabled <> p_enabled then
    v_kind := 'changed';
    update worker.jobs
       set is_enabled = p_enabled,
           disabled_at = case when p_enabled then disabled_at else v_now end,
           disabled_by = case when p_enabled then disabled_by else p_who end,
           disabled_reason = case when p_enabled then disabled_reason else p_reason end,
           enabled_at = case when p_enabled then v_now else enabled_at end,
           enabled_by = case when p_enabled then p_who else enabled_by end
     where id = p_job
    returning * into j;
    perform worker.audit_write(p_who, case when p_enabled then 'job_enable' else 'job_disable' end, 'job:' || p_job, p_reason,
      jsonb_build_object('before', not p_enabled, 'after', p_enabled), p_request_id);
  end if;
  return jsonb_build_object('kind', v_kind, 'isEnabled', j.is_enabled, 'disabledAt', j.disabled_at,
    'disabledBy', j.disabled_by, 'disabledReason', j.disabled_reason);
end $$;
revoke all on function worker.job_set_enabled from public, anon, authenticated;
grant execute on function worker.job_set_enabled to service_role;
