-- Brings jobs of the registry into the database and tells how far each is. A changed schedule or zone plans anew from
-- now on.
--   p_jobs  array of {id, schedule, timeZone, overlap, catchUp, latestStartMs, timeoutMs, attemptsMax, isCritical}, at most 100
--   p_tick  the job's own timer fired
--   returns  {now, jobs: [{id, isEnabled, since, lastSlotAt, lastTickAt, plannedFrom,
--            last: {runId, status, reason, dueAt, finishedAt} | null}]}; since = slots up to here have a row or are
--            nobody's; last = newest run that succeeded, failed, was missed or abandoned
--   raises   JB001 job_argument_invalid (permanent)
create or replace function worker.job_sync(p_jobs jsonb, p_tick boolean default false) returns jsonb
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if jsonb_typeof(p_jobs) is distinct from 'array' or jsonb_array_length(p_jobs) not between 1 and 100 then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  insert into worker.jobs as j (id, schedule, time_zone, overlap, catch_up, latest_start_ms, timeout_ms, attempts_max,
    is_critical, planned_from, last_tick_at)
  select n.id, n.schedule, n."timeZone", n.overlap, n."catchUp", n."latestStartMs", n."timeoutMs", n."attemptsMax",
         n."isCritical", v_now, case when p_tick then v_now end
    from jsonb_to_recordset(p_jobs) as n (id text, schedule text, "timeZone" text, overlap text, "catchUp" text,
           "latestStartMs" bigint, "timeoutMs" bigint, "attemptsMax" int, "isCritical" boolean)
   order by n.id
  on conflict on constraint jobs_pkey do update
     set schedule = excluded.schedule, time_zone = excluded.time_zone, overlap = excluded.overlap,
         catch_up = excluded.catch_up, latest_start_ms = excluded.latest_start_ms, timeout_ms = excluded.timeout_ms,
         attempts_max = excluded.attempts_max, is_critical = excluded.is_critical,
         planned_from = case when (j.schedule, j.time_zone) is distinct from (excluded.schedule, excluded.time_zone)
                             then v_now else j.planned_from end,
         last_tick_at = coalesce(excluded.last_tick_at, j.last_tick_at)
   where p_tick or (j.schedule, j.time_zone, j.overlap, j.catch_up, j.latest_start_ms, j.timeout_ms, j.attempts_max, j.is_critical)
         is distinct from (excluded.schedule, excluded.time_zone, excluded.overlap, excluded.catch_up,
                           excluded.latest_start_ms, excluded.timeout_ms, excluded.attempts_max, excluded.is_critical);
  return jsonb_build_object('now', v_now, 'jobs', (
    select coalesce(jsonb_agg(jsonb_build_object('id', j.id, 'isEnabled', j.is_enabled,
             'since', greatest(j.last_slot_at, j.planned_from), 'lastSlotAt', j.last_slot_at,
             'lastTickAt', j.last_tick_at, 'plannedFrom', j.planned_from,
             'last', case when r.id is not null then jsonb_build_object('runId', r.id, 'status', r.status,
               'reason', r.reason, 'dueAt', r.due_at, 'finishedAt', r.finished_at) end) order by j.id), '[]')
      from worker.jobs j
      left join lateral (
        select * from worker.job_runs
         where job_id = j.id and status in ('succeeded', 'failed', 'missed', 'abandoned')
         order by due_at desc
         limit 1) r on true
     where j.id in (select n ->> 'id' from jsonb_array_elements(p_jobs) as n)));
end $$;
revoke all on function worker.job_sync from public, anon, authenticated;
grant execute on function worker.job_sync to service_role;
