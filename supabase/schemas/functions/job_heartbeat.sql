-- Says that a run still works, extends its lease and hears whether to stop.
--   p_lease_ms  1,000 .. 900,000
--   p_progress  object of at most 16 KiB; null = nothing new
--   returns  {kind: ok, leaseUntil} | {kind: cancel, by, reason} | {kind: stale}   claimed by somebody else, or ended
create or replace function worker.job_heartbeat(p_run uuid, p_fence bigint, p_lease_ms int, p_progress jsonb default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now constant timestamptz := clock_timestamp();
  r worker.job_runs;
begin
  update worker.job_runs
     set heartbeat_at = v_now, progress = coalesce(p_progress, progress),
         lease_until = greatest(lease_until, v_now + least(greatest(p_lease_ms, 1000), 900000) * interval '1 millisecond')
   where id = p_run and fence = p_fence and status = 'running'
  returning * into r;
  if not found then
    return jsonb_build_object('kind', 'stale');
  end if;
  if r.cancel_requested_at is not null then
    return jsonb_build_object('kind', 'cancel', 'by', r.cancel_requested_by, 'reason', r.cancel_reason);
  end if;
  return jsonb_build_object('kind', 'ok', 'leaseUntil', r.lease_until);
end $$;
revoke all on function worker.job_heartbeat from public, anon, authenticated;
grant execute on function worker.job_heartbeat to service_role;
