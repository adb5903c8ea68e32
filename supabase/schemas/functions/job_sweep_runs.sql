-- Settles runs whose lease is over: they wait for another attempt while their slot may still start, at most twice; the
-- rest is abandoned. Ends what waited too long. Tells which waiting runs need a message, and remembers that it told.
--   p_limit  1 .. 1,000 of each
--   returns  {requeued: [{runId, jobId}], abandoned: [{runId, jobId}], ended: n, send: [{runId, jobId}]}
create or replace function worker.job_sweep_runs(p_limit int default 100)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_crashes_max constant int := 3;
  v_resend constant interval := interval '2 minutes';
  v_manual_wait constant interval := interval '1 hour';
  v_now constant timestamptz := clock_timestamp();
  v_limit constant int := least(greatest(p_limit, 1), 1000);
  v_settled jsonb;
  v_ended int;
  v_send jsonb;
begin
  with dead as (
    select r.id, r.job_id, r.crashes + 1 < v_crashes_max and (r.trigger = 'manual' or j.is_enabled)
             and r.cancel_requested_at is null
             and v_now <= r.due_at + case r.trigger when 'manual' then v_manual_wait
                            else j.latest_start_ms * interval '1 millisecond' end as again
      from worker.job_runs r
      join worker.jobs j on j.id = r.job_id
     where r.status = 'running' and r.lease_until <= v_now
     order by r.lease_until
     limit v_limit
       for update of r skip locked),
  settled as (
    update worker.job_runs r
       set status = case when d.again then 'queued' else 'abandoned' end, reason = 'lease_lost', crashes = r.crashes + 1,
           fence = -r.fence, -- nobody's: whoever held it is refused, and counted, from now on
           start_after = case when d.again then v_now end, sent_at = null, lease_until = null,
           finished_at = case when not d.again then v_now end
      from dead d where r.id = d.id
    returning r.id, r.job_id, r.status)
  select jsonb_build_object(
      'requeued', coalesce(jsonb_agg(jsonb_build_object('runId', id, 'jobId', job_id)) filter (where status = 'queued'), '[]'),
      'abandoned', coalesce(jsonb_agg(jsonb_build_object('runId', id, 'jobId', job_id)) filter (where status = 'abandoned'), '[]'))
    into v_settled from settled;
  with old as (
    select r.id from worker.job_runs r
      join worker.jobs j on j.id = r.job_id
     where r.status = 'queued'
       and v_now > r.due_at + case r.trigger when 'manual' then v_manual_wait
                    else j.latest_start_ms * interval '1 millisecond' end
     limit v_limit
       for update of r skip locked)
  update worker.job_runs r
     set status = case when r.failures > 0 then 'failed' when r.crashes > 0 then 'abandoned' else 'missed' end,
         reason = 'too_late', finished_at = v_now
    from old where r.id = old.id;
  get diagnostics v_ended = row_count;
  with due as (
    select id from worker.job_runs
     where status = 'queued' and start_after <= v_now and (sent_at is null or sent_at <= v_now - v_resend)
     order by start_after
     limit v_limit
       for update skip locked),
  told as (
    update worker.job_runs r set sent_at = v_now from due where r.id = due.id returning r.id, r.job_id)
  select coalesce(jsonb_agg(jsonb_build_object('runId', id, 'jobId', job_id)), '[]') into v_send from told;
  return v_settled || jsonb_build_object('ended', v_ended, 'send', v_send);
end $$;
revoke all on function worker.job_sweep_runs from public, anon, authenticated;
grant execute on function worker.job_sweep_runs to service_role;
