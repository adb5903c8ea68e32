-- Gives a run of a job to an instance: the next fence, a lease and the start. The caller has locked the job and decided.
--   returns  {kind: claimed, runId, fence, attempt, leaseUntil, slotAt, lateMs, now}
create or replace function worker.job_start_run(p_run uuid, p_instance text, p_lease_ms int, p_skew_ms bigint)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_fence bigint;
  r worker.job_runs;
begin
  update worker.jobs set fence = fence + 1
   where id = (select job_id from worker.job_runs where id = p_run)
  returning fence into v_fence;
  update worker.job_runs
     set status = 'running', reason = null, reason_text = null, fence = v_fence, attempt = attempt + 1,
         claimed_by = p_instance, start_after = null, started_at = v_now, heartbeat_at = v_now,
         lease_until = v_now + p_lease_ms * interval '1 millisecond', finished_at = null, duration_ms = null,
         late_ms = coalesce(late_ms, (extract(epoch from v_now - due_at) * 1000)::bigint), skew_ms = p_skew_ms
   where id = p_run
  returning * into r;
  return jsonb_build_object('kind', 'claimed', 'runId', r.id, 'fence', r.fence, 'attempt', r.attempt,
    'leaseUntil', r.lease_until, 'slotAt', r.slot_at, 'lateMs', r.late_ms, 'now', v_now);
end $$;
revoke all on function worker.job_start_run from public, anon, authenticated;
grant execute on function worker.job_start_run to service_role;
