-- Ends a run, or lets it wait for another attempt. Refused once somebody else claimed the run; what is refused is counted.
--   p_status    succeeded | failed | abandoned | cancelled
--   p_retry_ms  null = it ended for good; otherwise try again after this, 0 .. 21,600,000, as long as the job is enabled
--               and the slot may still start then
--   returns  {kind: finished, status} | {kind: queued, startAfter, waitMs} | {kind: already, status} the same call again
--            | {kind: stale}
--   raises   JB001 job_argument_invalid (permanent)
create or replace function worker.job_finish(p_run uuid, p_fence bigint, p_status text, p_reason text default null,
  p_reason_text text default null, p_error_code text default null, p_error_text text default null,
  p_report jsonb default null, p_retry_ms bigint default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_start_after constant timestamptz := v_now + p_retry_ms * interval '1 millisecond';
  r worker.job_runs;
  v_retry boolean;
begin
  if p_status not in ('succeeded', 'failed', 'abandoned', 'cancelled') or p_retry_ms not between 0 and 21600000 then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into r from worker.job_runs where id = p_run for update;
  if not found then
    return jsonb_build_object('kind', 'stale');
  end if;
  if r.fence <> p_fence then
    update worker.job_runs set stale_attempts = stale_attempts + 1 where id = p_run;
    return jsonb_build_object('kind', 'stale');
  end if;
  if r.status <> 'running' then
    return jsonb_build_object('kind', 'already', 'status', r.status);
  end if;
  v_retry := p_retry_ms is not null and p_status <> 'succeeded' and p_status <> 'cancelled'
    and r.cancel_requested_at is null and exists (
      select from worker.jobs j
       where j.id = r.job_id and j.is_enabled and r.failures + 1 < j.attempts_max
         and (r.trigger = 'manual' or v_start_after <= r.due_at + j.latest_start_ms * interval '1 millisecond'));
  update worker.job_runs
     set status = case when v_retry then 'queued' else p_status end,
         reason = case when v_retry then 'retry' else p_reason end, reason_text = left(p_reason_text, 500),
         failures = failures + case when p_status in ('failed', 'abandoned') then 1 else 0 end,
         start_after = case when v_retry then v_start_after end, sent_at = null, lease_until = null,
         finished_at = case when not v_retry then v_now end,
         duration_ms = (extract(epoch from v_now - started_at) * 1000)::bigint,
         report = coalesce(p_report, report), error_code = coalesce(p_error_code, error_code),
         error_text = coalesce(left(p_error_text, 500), error_text)
   where id = p_run
  returning * into r;
  if v_retry then
    return jsonb_build_object('kind', 'queued', 'startAfter', r.start_after, 'waitMs', p_retry_ms);
  end if;
  return jsonb_build_object('kind', 'finished', 'status', r.status);
end $$;
revoke all on function worker.job_finish from public, anon, authenticated;
grant execute on function worker.job_finish to service_role;
