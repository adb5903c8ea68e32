-- Asks a run to stop: one that waits ends at once, one that works hears it at its next heartbeat. The first request stands.
--   returns  {kind: cancelled | requested | already, status} | {kind: ended, status} | {kind: unknown}
--   raises   JB001 job_argument_invalid (permanent)
create or replace function worker.job_request_cancel(p_job text, p_run uuid, p_who text, p_reason text,
  p_request_id text default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now constant timestamptz := clock_timestamp();
  r worker.job_runs;
  v_kind text;
begin
  if coalesce(length(p_who), 0) not between 1 and 200 or length(p_reason) > 500 then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into r from worker.job_runs where id = p_run and job_id = p_job for update;
  if not found then
    return jsonb_build_object('kind', 'unknown');
  end if;
  if r.finished_at is not null then
    return jsonb_build_object('kind', 'ended', 'status', r.status);
  end if;
  if r.cancel_requested_at is not null then
    return jsonb_build_object('kind', 'already', 'status', r.status);
  end if;
  v_kind := case r.status when 'queued' then 'cancelled' else 'requested' end;
  update worker.job_runs
     set cancel_requested_at = v_now, cancel_requested_by = p_who, cancel_reason = p_reason,
         status = case status when 'queued' then 'cancelled' else status end,
         reason = case status when 'queued' then 'requested' else reason end,
         finished_at = case status when 'queued' then v_now end
   where id = p_run
  returning * into r;
  perform worker.audit_write(p_who, 'job_cancel', 'job_run:' || p_run, p_reason,
    jsonb_build_object('jobId', p_job, 'outcome', v_kind), p_request_id);
  return jsonb_build_object('kind', v_kind, 'status', r.status);
end $$;
revoke all on function worker.job_request_cancel from public, anon, authenticated;
grant execute on function worker.job_request_cancel to service_role;
