-- Why: counters in Redis drift from the ledger (expiry, eviction, foreign writers, lost entries). Each difference is
--   written down with its cause, repaired once, and held for a person where the truth is not known. The observer
--   verifies what it saw before it looks further.
-- Lock: two columns without a rewrite, four indexes on existing tables; booking waits while they are built.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; its observations have no anchor.

alter table worker.usage_shards add column if not exists consolidated_at timestamptz;
alter table worker.usage_observations add column if not exists anchor text;

create index if not exists usage_ledger_moved_to_idx on worker.usage_ledger (period, tenant)
  where usage_period <> period;
-- A correction that names its key can be booked once.
create unique index if not exists usage_ledger_adjustment_idx on worker.usage_ledger ((note ->> 'key'))
  where note ? 'key';
create index if not exists usage_totals_shard_idx on worker.usage_totals (shard, period, tenant);

-- What the counters in Redis and the ledger say differently, why, and what was done about it.

-- One correction of all counters of a shard: an intention until it is settled. `rep` in Redis names the last one that
-- was applied. An epoch is spent by the first repair that is planned on it, so that no difference is corrected twice.
create table if not exists worker.usage_repairs (
  repair_id uuid not null,
  run_id uuid not null,
  shard int not null,
  epoch text not null,                     -- `rep` when the counters were read; '' = none
  status text not null default 'planned',
  planned_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint usage_repairs_pkey primary key (repair_id),
  constraint usage_repairs_epoch_key unique (shard, epoch),
  constraint usage_repairs_status_check check (status in ('planned', 'applied', 'superseded')),
  constraint usage_repairs_settled_check check ((settled_at is null) = (status = 'planned'))
);
create unique index if not exists usage_repairs_planned_idx on worker.usage_repairs (shard) where status = 'planned';
alter table worker.usage_repairs enable row level security;
grant select, insert, update, delete on worker.usage_repairs to service_role;

create table if not exists worker.usage_drifts (
  id bigint generated always as identity,
  run_id uuid not null,                    -- that found it
  last_run_id uuid not null,               -- that saw it last
  shard int not null,
  tenant text collate "C" not null,
  period int not null,
  inc text not null,                       -- the instant of the comparison: lineage and last entry of the log
  n bigint not null,
  redis numeric,                           -- null = no counter, or one that is not a number
  used numeric not null,                   -- what the ledger says happened in the period
  drift numeric not null,                  -- redis - used; of total_edited: total - sum of the ledger
  cause text not null,
  repair text not null,                    -- what follows what: proposed, or decided by a person
  state text not null,
  repair_id uuid,
  evidence jsonb not null default '{}',
  decisions jsonb not null default '[]',   -- [{decision, repair, who, why, at}], the last one holds
  detected_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  repaired_at timestamptz,
  constraint usage_drifts_pkey primary key (id),
  constraint usage_drifts_cause_check check (
    cause in ('redis_key_missing', 'redis_behind', 'redis_ahead', 'redis_unreadable', 'entry_lost_before_apply',
      'quarantined', 'total_edited')),
  constraint usage_drifts_repair_check check (repair in ('counter', 'ledger', 'total')),
  constraint usage_drifts_state_check check (
    state in ('found', 'planned', 'repaired', 'superseded', 'hold_for_approval', 'wait_for_quarantine', 'approved',
      'rejected')),
  constraint usage_drifts_repaired_check check ((repaired_at is not null) = (state = 'repaired'))
);
-- A difference that stands is one row, however often it is seen.
create unique index if not exists usage_drifts_standing_idx on worker.usage_drifts (tenant, period)
  where state in ('hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected');
create unique index if not exists usage_drifts_found_idx on worker.usage_drifts (run_id, tenant, period)
  where state = 'found';
create index if not exists usage_drifts_shard_idx on worker.usage_drifts (shard, state)
  where state in ('planned', 'hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected');
create index if not exists usage_drifts_tenant_idx on worker.usage_drifts (tenant, id);
create index if not exists usage_drifts_run_id_idx on worker.usage_drifts (run_id, shard);
create index if not exists usage_drifts_last_run_id_idx on worker.usage_drifts (last_run_id);
create index if not exists usage_drifts_repair_id_idx on worker.usage_drifts (repair_id) where repair_id is not null;
alter table worker.usage_drifts enable row level security;
grant select, insert, update, delete on worker.usage_drifts to service_role;

-- One difference, classified. What usage_classify_drifts answers.
do $$
begin
  if to_regtype('worker.usage_drift_finding') is null then
    create type worker.usage_drift_finding as (
      tenant text, period int, redis numeric, used numeric, drift numeric, cause text, repair text, state text,
      evidence jsonb);
  end if;
end $$;

-- A difference as the readers show it; amounts and ids as text.
create or replace function worker.usage_drift_row(p_drift worker.usage_drifts) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('id', p_drift.id::text, 'runId', p_drift.run_id, 'lastRunId', p_drift.last_run_id,
    'shard', p_drift.shard, 'tenant', p_drift.tenant, 'period', p_drift.period, 'lineage', p_drift.inc,
    'n', p_drift.n::text, 'redis', p_drift.redis::text, 'used', p_drift.used::text, 'drift', p_drift.drift::text,
    'cause', p_drift.cause, 'repair', p_drift.repair, 'state', p_drift.state, 'evidence', p_drift.evidence,
    'decisions', p_drift.decisions, 'detectedAt', p_drift.detected_at, 'seenAt', p_drift.seen_at,
    'repairedAt', p_drift.repaired_at)
$$;
revoke all on function worker.usage_drift_row from public, anon, authenticated;
grant execute on function worker.usage_drift_row to service_role;

-- Differences between counters and ledger, newest first.
--   p_period, p_tenant, p_run, p_cause  only those; null = all. A run found them or saw them last
--   p_state   one state; 'open' = what stands and waits for somebody; null = all
--   p_before  id of the last row of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [see usage_drift_row], next}; next = p_before of the following page or null
create or replace function worker.usage_read_drifts(p_period int default null, p_tenant text default null,
  p_state text default null, p_run uuid default null, p_cause text default null, p_before bigint default null,
  p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_drifts
     where (p_period is null or period = p_period) and (p_tenant is null or tenant = p_tenant)
       and (p_run is null or run_id = p_run or last_run_id = p_run) and (p_cause is null or cause = p_cause)
       and (p_state is null or state = p_state
            or (p_state = 'open' and state in ('hold_for_approval', 'wait_for_quarantine', 'approved')))
       and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(worker.usage_drift_row(page::worker.usage_drifts) order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.usage_read_drifts from public, anon, authenticated;
grant execute on function worker.usage_read_drifts to service_role;

-- A person decides about a difference that is held. The decision is written down with who, when and why; the next
-- comparison of the shard acts on it, once. Repeating a decision changes nothing; another one replaces it until it was
-- acted on.
--   p_decision  approved | rejected
--   p_repair    counter = the ledger is right, ledger = the counter is right, total = the total becomes the sum of the
--               ledger; null = as proposed
--   returns  {status: approved | rejected, drift: see usage_drift_row}
--          | {status: not_held, state} | {status: repairing} | {status: repair_refused, repair} | {status: unknown}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_decide_drift(p_id bigint, p_decision text, p_repair text, p_who text,
  p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.usage_drifts;
  v_repair text;
begin
  if p_decision not in ('approved', 'rejected') or coalesce(p_who, '') = '' or coalesce(p_reason, '') = '' then
    raise exception 'usage_argument_invalid: a decision is approved or rejected, by somebody, for a reason'
      using errcode = 'UL001';
  end if;
  select * into d from worker.usage_drifts where id = p_id;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  -- The shard first, as everywhere: a comparison that acts on the difference holds it.
  perform from worker.usage_shards where shard = d.shard for update;
  select * into d from worker.usage_drifts where id = p_id for update;
  v_repair := coalesce(p_repair, d.repair);
  if d.state not in ('hold_for_approval', 'approved', 'rejected') then
    return jsonb_build_object('status', 'not_held', 'state', d.state);
  end if;
  if d.repair_id is not null then
    return jsonb_build_object('status', 'repairing');
  end if;
  if (v_repair = 'total') <> (d.cause = 'total_edited')
     or (v_repair = 'ledger' and d.cause in ('redis_key_missing', 'redis_unreadable')) then
    return jsonb_build_object('status', 'repair_refused', 'repair', v_repair);
  end if;
  if d.state <> p_decision or d.repair <> v_repair then
    update worker.usage_drifts
       set state = p_decision, repair = v_repair,
           decisions = decisions || jsonb_build_object('decision', p_decision, 'repair', v_repair, 'who', p_who,
             'why', p_reason, 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
     where id = p_id
    returning * into d;
  end if;
  return jsonb_build_object('status', p_decision, 'drift', worker.usage_drift_row(d));
end $$;
revoke all on function worker.usage_decide_drift from public, anon, authenticated;
grant execute on function worker.usage_decide_drift to service_role;

-- A person approves, as proposed, every difference of one cause that a run found or saw last and that is still held.
--   p_cause  null = every cause
--   returns  {approved, shards}: how many, and where
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_approve_drifts(p_run uuid, p_cause text, p_who text, p_reason text)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_answer jsonb;
begin
  if coalesce(p_who, '') = '' or coalesce(p_reason, '') = '' then
    raise exception 'usage_argument_invalid: a decision is made by somebody, for a reason' using errcode = 'UL001';
  end if;
  perform from worker.usage_shards
   where shard in (select shard from worker.usage_drifts
                    where state = 'hold_for_approval' and (run_id = p_run or last_run_id = p_run))
   order by shard for update;
  with approved as (
    update worker.usage_drifts
       set state = 'approved',
           decisions = decisions || jsonb_build_object('decision', 'approved', 'repair', repair, 'who', p_who,
             'why', p_reason, 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
     where state = 'hold_for_approval' and (run_id = p_run or last_run_id = p_run)
       and (p_cause is null or cause = p_cause)
    returning shard)
  select jsonb_build_object('approved', count(*), 'shards', coalesce(jsonb_agg(distinct shard), '[]'))
    into v_answer from approved;
  return v_answer;
end $$;
revoke all on function worker.usage_approve_drifts from public, anon, authenticated;
grant execute on function worker.usage_approve_drifts to service_role;

-- Part of usage_act_on_drifts: entries that vanished were booked after all. Fills the gaps of the shard from the oldest
-- on, what vanished before what was rewound; their entries count as recovered when nothing is missing any more.
--   p_tokens  what was booked; negative when credits had vanished
create or replace function worker.usage_close_gaps(p_shard int, p_tokens numeric) returns void
language sql volatile security invoker set search_path = '' as $$
  with open as (
    select id, cause, tokens_lost - recovered as missing
      from worker.usage_gaps
     where shard = p_shard and (tokens_lost <> recovered or entries_lost <> entries_recovered)),
  summed as (
    select *, sum(missing) filter (where cause = 'missing_entries') over () as vanished, sum(missing) over () as total,
           coalesce(sum(abs(missing)) filter (where sign(missing) = sign(p_tokens))
             over (order by cause, id rows between unbounded preceding and 1 preceding), 0) as before
      from open),
  filled as (
    select id, case when vanished = p_tokens then case cause when 'missing_entries' then missing else 0 end
                    when total = p_tokens then missing
                    when sign(missing) <> sign(p_tokens) then 0
                    else sign(p_tokens) * greatest(0, least(abs(missing), abs(p_tokens) - before)) end as tokens
      from summed)
  update worker.usage_gaps g
     set recovered = g.recovered + f.tokens,
         entries_recovered = case when g.recovered + f.tokens = g.tokens_lost then coalesce(g.entries_lost, 0)
                                  else g.entries_recovered end,
         updated_at = now()
    from filled f
   where g.id = f.id
$$;
revoke all on function worker.usage_close_gaps from public, anon, authenticated;
grant execute on function worker.usage_close_gaps to service_role;

-- Part of usage_consolidate_shard and usage_confirm_repair: what became of a planned correction. Repeating it changes
-- nothing. What was not applied is found again by the next comparison; what a person approved stays approved.
create or replace function worker.usage_settle_repair(p_repair uuid, p_is_applied boolean) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.usage_repairs
     set status = case when p_is_applied then 'applied' else 'superseded' end, settled_at = now()
   where repair_id = p_repair and status = 'planned';
  if not found then
    return;
  end if;
  if p_is_applied then
    update worker.usage_drifts set state = 'repaired', repaired_at = now()
     where repair_id = p_repair and state in ('planned', 'approved');
  else
    update worker.usage_drifts
       set state = case when state = 'planned' then 'superseded' else state end, repair_id = null
     where repair_id = p_repair and state in ('planned', 'approved');
  end if;
end $$;
revoke all on function worker.usage_settle_repair from public, anon, authenticated;
grant execute on function worker.usage_settle_repair to service_role;

-- The counters of a shard were corrected, and with p_run the shard is done in that run. Repeating it changes nothing. When the confirmation is lost, the next
-- comparison settles the correction: Redis names the last one that was applied.
--   returns  {status: applied | superseded | unknown}
create or replace function worker.usage_confirm_repair(p_shard int, p_repair uuid, p_run uuid default null)
returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status text;
begin
  perform from worker.usage_shards where shard = p_shard for update;
  perform worker.usage_settle_repair(p_repair, true);
  select status into v_status from worker.usage_repairs where repair_id = p_repair;
  if v_status = 'applied' then
    update worker.usage_shards set consolidated_at = now() where shard = p_shard;
  end if;
  if p_run is not null then
    perform worker.usage_report_shard(p_run, p_shard, 'done');
  end if;
  return jsonb_build_object('status', coalesce(v_status, 'unknown'));
end $$;
revoke all on function worker.usage_confirm_repair from public, anon, authenticated;
grant execute on function worker.usage_confirm_repair to service_role;

-- Part of usage_consolidate_shard: what its answer says about the differences as a whole.
create or replace function worker.usage_sum_drifts(p_found worker.usage_drift_finding[]) returns jsonb
language sql immutable security invoker set search_path = '' as $$
  select jsonb_build_object('status', 'compared', 'causes', coalesce(jsonb_object_agg(cause, number), '{}'),
           'tokens', coalesce(sum(tokens), 0)::text, 'held', coalesce(sum(held), 0), 'waiting', coalesce(sum(waiting), 0),
           'booked', '0', 'more', false,
           'repairs', jsonb_build_object('tenant', jsonb '[]', 'period', jsonb '[]', 'delta', jsonb '[]'))
    from (select cause, count(*) as number, sum(abs(drift)) as tokens,
                 count(*) filter (where state = 'hold_for_approval') as held,
                 count(*) filter (where state = 'wait_for_quarantine') as waiting
            from unnest(p_found)
           group by cause) causes
$$;
revoke all on function worker.usage_sum_drifts from public, anon, authenticated;
grant execute on function worker.usage_sum_drifts to service_role;

-- Part of usage_consolidate_shard: a dry run writes what it found and changes nothing else. Repeating it in one run
-- replaces the findings of the shard.
create or replace function worker.usage_note_drifts(p_run uuid, p_shard int, p_inc text, p_n bigint,
  p_found worker.usage_drift_finding[]) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  delete from worker.usage_drifts where run_id = p_run and shard = p_shard and state = 'found';
  insert into worker.usage_drifts (run_id, last_run_id, shard, tenant, period, inc, n, redis, used, drift, cause, repair,
    state, evidence)
  select p_run, p_run, p_shard, tenant, period, p_inc, p_n, redis, used, drift, cause, repair, 'found',
         evidence || jsonb_build_object('would', state)
    from unnest(p_found);
  return worker.usage_sum_drifts(p_found);
end $$;
revoke all on function worker.usage_note_drifts from public, anon, authenticated;
grant execute on function worker.usage_note_drifts to service_role;

-- Part of usage_consolidate_shard: open months after p_period in which something of this shard happened or is billed,
-- the earliest 24. Uses that claim to lie far ahead have counters too.
create or replace function worker.usage_later_periods(p_shard int, p_period int) returns int[]
language sql stable security invoker
set search_path = '' set enable_seqscan = off as $$ -- the planner takes moved uses for common and reads the whole ledger
  with recursive billed (period) as ( -- one index probe for each month, not one row for each tenant
    select min(period) from worker.usage_totals where shard = p_shard and period > p_period
    union all
    select (select min(t.period) from worker.usage_totals t where t.shard = p_shard and t.period > b.period)
      from billed b where b.period is not null),
  moved as (
    select distinct l.usage_period as period
      from worker.usage_ledger l
      join worker.usage_totals t on t.tenant = l.tenant and t.period = l.period and t.shard = p_shard
     where l.usage_period <> l.period and l.usage_period > p_period)
  select coalesce(array_agg(period order by period), '{}')
    from (select period from billed where period is not null
          union select period from moved
          except select period from worker.usage_periods where state = 'closed'
          order by period
          limit 24) later
$$;
revoke all on function worker.usage_later_periods from public, anon, authenticated;
grant execute on function worker.usage_later_periods to service_role;

-- How far each log was when it was last seen.
--   returns  [{shard, inc, n, cum, count, anchor}] in order of shard, at most 4096; numbers as text
create or replace function worker.usage_read_observations() returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('shard', shard, 'inc', inc, 'n', n::text, 'cum', cum::text,
           'count', count::text, 'anchor', anchor) order by shard, observed_at), '[]')
    from (select * from worker.usage_observations order by shard, observed_at limit 4096) o
$$;
revoke all on function worker.usage_read_observations from public, anon, authenticated;
grant execute on function worker.usage_read_observations to service_role;

-- Part of usage_observe_shards: lineages that were observed and ended. What was seen and neither applied nor kept is
-- lost. The observation is used up in the same transaction, so that the fork that follows does not count it again.
--   p_ended  [{shard, inc, keptN, keptCum, keptCount}]; keptCount null = nobody counted
create or replace function worker.usage_open_observed_gaps(p_ended jsonb) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  -- Whoever applies or follows a lineage holds the shard.
  perform from worker.usage_shards
   where shard in (select shard from jsonb_to_recordset(p_ended) as e (shard int))
   order by shard for update;
  insert into worker.usage_gaps as g (shard, inc, from_n, to_n, tokens_lost, entries_lost, cause)
  select o.shard, o.inc, safe.n + 1, o.n, o.cum - safe.cum, o.count - safe.count, 'redis_rewind'
    from jsonb_to_recordset(p_ended)
      as e (shard int, inc text, "keptN" bigint, "keptCum" numeric, "keptCount" bigint)
    join worker.usage_observations o on o.shard = e.shard and o.inc = e.inc
    -- A lineage of which nothing was applied yet is known as far as it was when it was adopted.
    left join lateral (
      select case when s.cum is null then s.base_n else s.n end as n,
             case when s.cum is null then s.base_cum else s.cum end as cum,
             case when s.cum is not null then s.count end as count
        from worker.usage_shards s where s.shard = o.shard and s.inc = o.inc
      union all
      select l.last_n, l.last_cum, l.last_count from worker.usage_lineages l
       where l.shard = o.shard and l.inc = o.inc and l.last_cum is not null
      order by 1 desc
      limit 1) applied on true
   cross join lateral (
      select greatest(applied.n, e."keptN") as n,
             case when applied.n >= e."keptN" then applied.cum else e."keptCum" end as cum,
             case when greatest(applied.n, e."keptN") = 0 then 0
                  when applied.n >= e."keptN" then applied.count else e."keptCount" end as count) safe
   where o.n > safe.n and (o.cum <> safe.cum or o.count <> safe.count)
  on conflict (shard, inc, from_n) where cause = 'redis_rewind' do update
    set to_n = excluded.to_n, tokens_lost = excluded.tokens_lost, entries_lost = excluded.entries_lost,
        updated_at = now()
    where excluded.to_n > g.to_n;
  delete from worker.usage_observations o
   using jsonb_to_recordset(p_ended) as e (shard int, inc text)
   where o.shard = e.shard and o.inc = e.inc;
end $$;
revoke all on function worker.usage_open_observed_gaps from public, anon, authenticated;
grant execute on function worker.usage_open_observed_gaps to service_role;

-- Remembers, outside Redis, how far each log is. An observation only moves forward within its lineage. What an
-- observation proves to be lost is written down first.
--   p_observations  [{shard, inc, n, cum, count, anchor, ended}], at most 4096; elements without a lineage are skipped.
--                   ended: {inc, keptN, keptCum, keptCount}, an observed lineage that ended, and how much of it is
--                   still in Redis; absent = none
--   returns         observations written
--   raises          UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_observe_shards(p_observations jsonb) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_written int;
  v_ended jsonb;
begin
  if jsonb_array_length(p_observations) > 4096 then
    raise exception 'usage_argument_invalid: more than 4096 observations' using errcode = 'UL001';
  end if;
  select jsonb_agg(e -> 'ended' || jsonb_build_object('shard', e -> 'shard')) into v_ended
    from jsonb_array_elements(p_observations) e
   where jsonb_typeof(e -> 'ended') = 'object';
  if v_ended is not null then
    perform worker.usage_open_observed_gaps(v_ended);
  end if;
  insert into worker.usage_observations as o (shard, inc, n, cum, count, anchor)
  select distinct on (shard, inc) shard, inc, n, cum, count, nullif(anchor, '')
    from jsonb_to_recordset(p_observations)
      as e (shard int, inc text, n bigint, cum numeric, count bigint, anchor text)
   where inc <> ''
   order by shard, inc, n desc
  on conflict on constraint usage_observations_pkey do update
    set n = excluded.n, cum = excluded.cum, count = excluded.count, anchor = excluded.anchor, observed_at = now()
    where excluded.n > o.n;
  get diagnostics v_written = row_count;
  return v_written;
end $$;
revoke all on function worker.usage_observe_shards from public, anon, authenticated;
grant execute on function worker.usage_observe_shards to service_role;
