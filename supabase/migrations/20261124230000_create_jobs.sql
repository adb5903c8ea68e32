-- Why: schedulers know the runs that happened; this ledger also knows the ones that should have. One row for each planned
--   slot and each manual run, claimed by insert, under a fence that rises with every claim.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Scheduled jobs and their occurrence ledger. Every planned slot of a job and every manual run has exactly one row, so
-- that what did not run is as visible as what did.
create table if not exists worker.jobs (
  id text not null,
  schedule text not null,                  -- of the registry, as the version that spoke last has it
  time_zone text not null,
  overlap text not null,
  catch_up text not null,
  latest_start_ms bigint not null,
  timeout_ms bigint not null,
  attempts_max int not null,               -- of one slot, by failures; crashes are counted apart
  is_critical boolean not null,
  planned_from timestamptz not null,       -- slots up to here are nobody's: first registration, or a changed schedule
  last_slot_at timestamptz,                -- newest slot with a row
  last_tick_at timestamptz,                -- when the job's own timer last fired, whatever came of it
  fence bigint not null default 0,         -- of the newest claim of any of its runs
  is_enabled boolean not null default true,
  disabled_at timestamptz,
  disabled_by text,
  disabled_reason text,
  enabled_at timestamptz,                  -- when it was last enabled again
  enabled_by text,
  constraint jobs_pkey primary key (id),
  constraint jobs_id_check check (id ~ '^[a-z][a-z0-9_]{1,60}$'),
  constraint jobs_overlap_check check (overlap in ('skip', 'allow')),
  constraint jobs_catch_up_check check (catch_up in ('skip', 'once', 'all')),
  constraint jobs_limits_check check (latest_start_ms > 0 and timeout_ms > 0 and attempts_max between 1 and 20),
  constraint jobs_disabled_check check (is_enabled or disabled_at is not null)
);
alter table worker.jobs enable row level security;
grant select, insert, update on worker.jobs to service_role;

-- One row for each planned slot and each manual run. A row that ended is never started again.
create table if not exists worker.job_runs (
  id uuid not null default gen_random_uuid(),
  job_id text not null,
  slot_at timestamptz,                     -- the planned instant; null = started by hand
  due_at timestamptz not null,             -- slot_at, or when it was asked for: the order of the history
  trigger text not null,
  status text not null,
  reason text,                             -- code: why it is in this status
  reason_text text,
  fence bigint not null default 0,         -- of its newest claim; rises with every claim of the job
  attempt int not null default 0,          -- claims so far
  failures int not null default 0,
  crashes int not null default 0,          -- claims that ended without a word
  stale_attempts int not null default 0,   -- writes refused because somebody else had claimed the run
  claimed_by text,                         -- instance
  start_after timestamptz,                 -- queued: not before
  sent_at timestamptz,                     -- queued: when a message was last sent for it
  started_at timestamptz,                  -- of the newest attempt
  heartbeat_at timestamptz,
  lease_until timestamptz,                 -- running: dead when this passes
  finished_at timestamptz,
  duration_ms bigint,                      -- of the newest attempt
  late_ms bigint,                          -- first start after the slot
  skew_ms bigint,                          -- clock of the instance that claimed it minus that of the database
  progress jsonb,
  report jsonb,
  error_code text,                         -- of the newest attempt that failed
  error_text text,
  covered_by uuid,                         -- caught_up: the run that did its work
  idempotency_key text,
  requested_by text,
  requested_reason text,
  cancel_requested_at timestamptz,
  cancel_requested_by text,
  cancel_reason text,
  recorded_at timestamptz not null default now(),
  constraint job_runs_pkey primary key (id),
  constraint job_runs_job_id_fkey foreign key (job_id) references worker.jobs (id),
  constraint job_runs_slot_key unique (job_id, slot_at),
  constraint job_runs_idempotency_key unique (job_id, idempotency_key),
  constraint job_runs_trigger_check check (trigger in ('schedule', 'catch_up', 'manual')),
  constraint job_runs_status_check check (status in
    ('queued', 'running', 'succeeded', 'failed', 'skipped', 'caught_up', 'missed', 'abandoned', 'cancelled')),
  constraint job_runs_slot_check check ((trigger = 'manual') = (slot_at is null)),
  constraint job_runs_ended_check check ((status in ('queued', 'running')) = (finished_at is null)),
  constraint job_runs_running_check check (status <> 'running' or (lease_until is not null and started_at is not null)),
  constraint job_runs_size_check check (length(report::text) <= 16384 and length(progress::text) <= 16384
    and length(error_text) <= 500 and length(reason_text) <= 500)
);
create index if not exists job_runs_due_at_idx on worker.job_runs (job_id, due_at desc, id desc);
create index if not exists job_runs_open_idx on worker.job_runs (job_id, status) where status in ('queued', 'running');
create index if not exists job_runs_decisive_idx on worker.job_runs (job_id, due_at desc)
  where status in ('succeeded', 'failed', 'missed', 'abandoned');
create index if not exists job_runs_finished_at_idx on worker.job_runs (finished_at) where finished_at is not null;
alter table worker.job_runs enable row level security;
grant select, insert, update, delete on worker.job_runs to service_role;

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

-- For SQL functions that write on behalf of a run: call it first in the same transaction. The run cannot be claimed by
-- somebody else before that transaction ends.
--   raises  JB003 job_fence_stale (permanent): the run ended, or somebody else claimed it
create or replace function worker.job_assert_fence(p_run uuid, p_fence bigint) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform from worker.job_runs where id = p_run and fence = p_fence and status = 'running' for share;
  if not found then
    raise exception 'job_fence_stale' using errcode = 'JB003';
  end if;
end $$;
revoke all on function worker.job_assert_fence from public, anon, authenticated;
grant execute on function worker.job_assert_fence to service_role;

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

-- Enables or disables a job, at once on every instance: claims look here. A run that works goes on. What already is so
-- changes nothing.
--   returns  {kind: changed | already, isEnabled, disabledAt, disabledBy, disabledReason}
--   raises   JB001 job_argument_invalid · JB002 job_unknown (permanent)
create or replace function worker.job_set_enabled(p_job text, p_enabled boolean, p_who text, p_reason text,
  p_request_id text default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now timestamptz;
  j worker.jobs;
  v_kind text := 'already';
begin
  if p_enabled is null or coalesce(length(p_who), 0) not between 1 and 200 or length(p_reason) > 500 then
    raise exception 'job_argument_invalid' using errcode = 'JB001';
  end if;
  select * into j from worker.jobs where id = p_job for no key update;
  if not found then
    raise exception 'job_unknown' using errcode = 'JB002';
  end if;
  v_now := clock_timestamp();
  if j.is_enabled <> p_enabled then
    v_kind := 'changed';
    update worker.jobs
       set is_enabled = p_enabled,
           disabled_at = case when p_enabled then disabled_at else v_now end,
           disabled_by = case when p_enabled then disabled_by else p_who end,
           disabled_reason = case when p_enabled then disabled_reason else p_reason end,
           enabled_at = case when p_enabled then v_now else enabled_at end,
           enabled_by = case when p_enabled then p_who else enabled_by end
     where id = p_job
    returning * into j;
    perform worker.audit_write(p_who, case when p_enabled then 'job_enable' else 'job_disable' end, 'job:' || p_job, p_reason,
      jsonb_build_object('before', not p_enabled, 'after', p_enabled), p_request_id);
  end if;
  return jsonb_build_object('kind', v_kind, 'isEnabled', j.is_enabled, 'disabledAt', j.disabled_at,
    'disabledBy', j.disabled_by, 'disabledReason', j.disabled_reason);
end $$;
revoke all on function worker.job_set_enabled from public, anon, authenticated;
grant execute on function worker.job_set_enabled to service_role;

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

-- How far the slots of every job are written down, for health checks.
--   returns  {now, installedAt, jobs: [{id, isEnabled, since}]}; since = slots up to here have a row or are nobody's
create or replace function worker.job_read_scheduler() returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('now', now(), 'installedAt', (select installed_at from worker.installations),
    'jobs', (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'isEnabled', is_enabled,
               'since', greatest(last_slot_at, planned_from)) order by id), '[]') from worker.jobs))
$$;
revoke all on function worker.job_read_scheduler from public, anon, authenticated;
grant execute on function worker.job_read_scheduler to service_role;
