-- Claims a planned slot: of any number of instances and repetitions one gets it, because its row can be inserted once.
-- Also writes down the slots before it that this run covers or that nobody runs any more. Takes over a run whose lease is
-- over. The clock is the database's.
--   p_trigger   schedule | catch_up
--   p_lease_ms  1,000 .. 900,000
--   p_client_now  the caller's clock, to show its skew
--   p_covered, p_missed  slots before p_slot, at most 5,000 each
--   returns  {kind: claimed, runId, fence, attempt, leaseUntil, slotAt, lateMs, now}
--            | {kind: taken, runId, status}            somebody else has it, had it or will have it
--            | {kind: skipped, runId, reason}          disabled | overlap
--            | {kind: missed, runId, reason}           too_late
--            | {kind: early, waitMs}                   not yet; nothing is written
--            | {kind: busy, runId}                     a late slot waits for an earlier run; nothing is written
--   raises   JB001 job_argument_invalid · JB002 job_unknown (permanent)
create or replace function worker.job_claim_slot(p_job text, p_slot timestamptz, p_trigger text, p_instance text,
  p_lease_ms int, p_client_now timestamptz, p_covered timestamptz[] default '{}', p_missed timestamptz[] default '{}')
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now timestamptz;
  j worker.jobs;
  r worker.job_runs;
  v_status text := 'queued';
  v_reason text;
  v_busy uuid;
begin
  if p_trigger not in ('schedule', 'catch_up') or p_slot is null or p_lease_ms not between 1000 and 900000
     or coalesce(p_instance, '') = '' then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into j from worker.jobs where id = p_job for no key update;
  if not found then
    raise exception 'job_unknown' using errcode = 'JB002';
  end if;
  v_now := clock_timestamp(); -- after the wait for the lock
  if p_slot > v_now then
    return jsonb_build_object('kind', 'early', 'waitMs', ceil(extract(epoch from p_slot - v_now) * 1000));
  end if;

  select * into r from worker.job_runs where job_id = p_job and slot_at = p_slot for update;
  if not found then
    if j.disabled_at is not null and p_slot >= j.disabled_at and (not j.is_enabled or p_slot < j.enabled_at) then
      v_status := 'skipped'; v_reason := 'disabled';
    elsif not j.is_enabled then
      v_status := 'skipped'; v_reason := 'disabled';
    elsif v_now > p_slot + j.latest_start_ms * interval '1 millisecond' then
      v_status := 'missed'; v_reason := 'too_late';
    elsif j.overlap = 'skip' then
      select id into v_busy from worker.job_runs where job_id = p_job and status = 'running' and lease_until > v_now limit 1;
      if found and p_trigger = 'catch_up' then
        return jsonb_build_object('kind', 'busy', 'runId', v_busy);
      elsif found then
        v_status := 'skipped'; v_reason := 'overlap';
      end if;
    end if;
    insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, reason, start_after, finished_at)
    values (p_job, p_slot, p_slot, p_trigger, v_status, v_reason, v_now, case when v_status <> 'queued' then v_now end)
    on conflict on constraint job_runs_slot_key do nothing
    returning * into r;
    update worker.jobs set last_slot_at = greatest(last_slot_at, p_slot) where id = p_job;
  elsif r.status = 'running' and r.lease_until <= v_now and r.crashes < 2
        and v_now <= p_slot + j.latest_start_ms * interval '1 millisecond' and j.is_enabled then
    update worker.job_runs set crashes = crashes + 1 where id = r.id;
  elsif r.status <> 'queued' or r.start_after > v_now or not j.is_enabled then
    v_status := 'taken';
  end if;

  perform worker.job_record_slots(p_job, p_missed, 'missed', case j.catch_up when 'skip' then 'policy' else 'too_late' end);
  if v_status in ('queued', 'taken') then
    perform worker.job_record_slots(p_job, p_covered, 'caught_up', 'covered', r.id);
  else
    perform worker.job_record_slots(p_job, p_covered, 'missed', coalesce(v_reason, 'too_late'));
  end if;
  if v_status = 'queued' then
    return worker.job_start_run(r.id, p_instance, p_lease_ms,
      round(extract(epoch from p_client_now - v_now) * 1000)::bigint);
  end if;
  if v_status = 'taken' then
    return jsonb_build_object('kind', 'taken', 'runId', r.id, 'status', r.status);
  end if;
  return jsonb_build_object('kind', v_status, 'runId', r.id, 'reason', v_reason);
end $$;
revoke all on function worker.job_claim_slot from public, anon, authenticated;
grant execute on function worker.job_claim_slot to service_role;
