-- Starts a run by hand: writes its row; a message then wakes it. Also for a disabled job, because a person decides. One key
-- is one run.
--   p_key    idempotency key, 1 .. 200 characters; null = every call is another run
--   returns  {kind: started, runId} | {kind: known, runId, status} the key was used before
--            | {kind: busy, runId, status}   a job that does not overlap has a run that works or waits
--   raises   JB001 job_argument_invalid · JB002 job_unknown (permanent)
create or replace function worker.job_start_manual(p_job text, p_key text, p_who text, p_reason text,
  p_request_id text default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamptz;
  j worker.jobs;
  r worker.job_runs;
begin
  if length(p_key) not between 1 and 200 or coalesce(length(p_who), 0) not between 1 and 200 or length(p_reason) > 500 then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into j from worker.jobs where id = p_job for no key update;
  if not found then
    raise exception 'job_unknown' using errcode = 'JB002';
  end if;
  v_now := clock_timestamp();
  select * into r from worker.job_runs where job_id = p_job and idempotency_key = p_key;
  if found then
    return jsonb_build_object('kind', 'known', 'runId', r.id, 'status', r.status);
  end if;
  if j.overlap = 'skip' then
    select * into r from worker.job_runs
     where job_id = p_job and (status = 'running' and lease_until > v_now or status = 'queued' and trigger = 'manual')
     limit 1;
    if found then
      return jsonb_build_object('kind', 'busy', 'runId', r.id, 'status', r.status);
    end if;
  end if;
  insert into worker.job_runs (job_id, due_at, trigger, status, reason, start_after, sent_at, idempotency_key, requested_by,
    requested_reason)
  values (p_job, v_now, 'manual', 'queued', 'manual', v_now, v_now, p_key, p_who, p_reason)
  returning * into r;
  perform worker.audit_write(p_who, 'job_run', 'job:' || p_job, p_reason, jsonb_build_object('runId', r.id), p_request_id);
  return jsonb_build_object('kind', 'started', 'runId', r.id);
end $$;
revoke all on function worker.job_start_manual from public, anon, authenticated;
grant execute on function worker.job_start_manual to service_role;
