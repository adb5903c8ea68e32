-- Claims a run that waits: started by hand, or to be tried again.
--   p_lease_ms  1,000 .. 900,000
--   returns  {kind: claimed, jobId, runId, fence, attempt, leaseUntil, slotAt, lateMs, now}
--            | {kind: taken, status}        it does not wait any more
--            | {kind: waiting, reason, waitMs}  not_due | overlap
--            | {kind: ended, status, reason}    this call ended it: disabled, too_late
--            | {kind: unknown}
--   raises   JB001 job_argument_invalid (permanent)
create or replace function worker.job_claim_run(p_run uuid, p_instance text, p_lease_ms int, p_client_now timestamptz)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_manual_wait constant interval := interval '1 hour';
  v_busy_wait constant interval := interval '30 seconds';
  v_now timestamptz;
  j worker.jobs;
  r worker.job_runs;
  v_status text;
  v_reason text;
begin
  if p_lease_ms not between 1000 and 900000 or coalesce(p_instance, '') = '' then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select j1.* into j from worker.jobs j1 join worker.job_runs r1 on r1.job_id = j1.id where r1.id = p_run for no key update of j1;
  if not found then
    return jsonb_build_object('kind', 'unknown');
  end if;
  v_now := clock_timestamp();
  select * into r from worker.job_runs where id = p_run for update;
  if r.status <> 'queued' then
    return jsonb_build_object('kind', 'taken', 'status', r.status);
  end if;
  if r.trigger <> 'manual' and not j.is_enabled then
    v_status := 'skipped'; v_reason := 'disabled';
  elsif v_now > r.due_at + (case r.trigger when 'manual' then v_manual_wait
                                 else j.latest_start_ms * interval '1 millisecond' end) then
    v_status := case when r.failures > 0 then 'failed' when r.crashes > 0 then 'abandoned' else 'missed' end;
    v_reason := 'too_late';
  end if;
  if v_status is not null then
    update worker.job_runs set status = v_status, reason = v_reason, finished_at = v_now where id = p_run;
    return jsonb_build_object('kind', 'ended', 'status', v_status, 'reason', v_reason);
  end if;
  if r.start_after > v_now then
    return jsonb_build_object('kind', 'waiting', 'reason', 'not_due',
      'waitMs', ceil(extract(epoch from r.start_after - v_now) * 1000));
  end if;
  if j.overlap = 'skip' and exists (
      select from worker.job_runs where job_id = j.id and status = 'running' and lease_until > v_now) then
    update worker.job_runs set start_after = v_now + v_busy_wait, sent_at = null, reason = 'overlap' where id = p_run;
    return jsonb_build_object('kind', 'waiting', 'reason', 'overlap', 'waitMs', extract(epoch from v_busy_wait) * 1000);
  end if;
  return worker.job_start_run(p_run, p_instance, p_lease_ms, round(extract(epoch from p_client_now - v_now) * 1000)::bigint)
    || jsonb_build_object('jobId', j.id);
end $$;
revoke all on function worker.job_claim_run from public, anon, authenticated;
grant execute on function worker.job_claim_run to service_role;
