-- Writes down planned slots that do not run, so that each has its row. Slots of a time in which the job was disabled are
-- skipped, whatever is asked for. A slot that has a row keeps it.
--   p_slots    at most 5,000
--   p_status   missed | caught_up
--   p_reason   code
--   p_covered  caught_up: the run that does their work
--   returns    number of rows added
--   raises     JB001 job_argument_invalid · JB002 job_unknown (permanent)
create or replace function worker.job_record_slots(p_job text, p_slots timestamptz[], p_status text, p_reason text,
  p_covered uuid default null) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now constant timestamptz := clock_timestamp();
  j worker.jobs;
  v_added int;
begin
  if coalesce(cardinality(p_slots), 0) = 0 then
    return 0;
  end if;
  if cardinality(p_slots) > 5000 or p_status not in ('missed', 'caught_up')
     or exists (select from unnest(p_slots) as s where s is null or s > v_now) then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into j from worker.jobs where id = p_job for no key update;
  if not found then
    raise exception 'job_unknown' using errcode = 'JB002';
  end if;
  insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, reason, covered_by, finished_at)
  select p_job, s.slot, s.slot, 'schedule', case when s.off then 'skipped' else p_status end,
         case when s.off then 'disabled' else p_reason end, case when not s.off then p_covered end, v_now
    from (select slot, j.disabled_at is not null and slot >= j.disabled_at
                       and (not j.is_enabled or slot < j.enabled_at) as off
            from unnest(p_slots) as slot) as s
  on conflict on constraint job_runs_slot_key do nothing;
  get diagnostics v_added = row_count;
  update worker.jobs set last_slot_at = greatest(last_slot_at, (select max(slot) from unnest(p_slots) as slot))
   where id = p_job;
  return v_added;
end $$;
revoke all on function worker.job_record_slots from public, anon, authenticated;
grant execute on function worker.job_record_slots to service_role;
