-- Why: events are kept for weeks, not for ever; an audit has to know what was dropped.
-- Lock: a moment on usage_batches and the default partition of usage_events for grants. The rest is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- What is left of events whose day was dropped: sums, so that an audit does not miss them.
create table if not exists worker.usage_pruned (
  period int not null,                     -- it happened in
  tenant text collate "C" not null,
  shard int not null,
  tokens numeric not null,
  events bigint not null,
  constraint usage_pruned_pkey primary key (period, tenant)
) with (fillfactor = 70);
alter table worker.usage_pruned enable row level security;
grant select on worker.usage_pruned to service_role;

-- Which days were dropped, and when.
create table if not exists worker.usage_pruned_days (
  day date not null,
  events bigint not null,
  tokens numeric not null,
  pruned_at timestamptz not null default now(),
  constraint usage_pruned_days_pkey primary key (day)
);
alter table worker.usage_pruned_days enable row level security;
grant select on worker.usage_pruned_days to service_role;

grant delete on worker.usage_batches to service_role;
grant select on worker.usage_events_default to service_role; -- which days are in it

-- Days of events that are older than the retention, earliest first.
--   p_before  first day that is kept
--   p_limit   1 .. 400
--   returns   [yyyy-mm-dd]
create or replace function worker.usage_prunable_days(p_before date, p_limit int default 100) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(day order by day), '[]')
    from (select to_date(substring(c.relname from '_(\d{8})$'), 'YYYYMMDD') as day
            from pg_catalog.pg_inherits i
            join pg_catalog.pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'worker.usage_events'::regclass and c.relname ~ '_\d{8}$'
             and substring(c.relname from '_(\d{8})$') < to_char(p_before, 'YYYYMMDD')
          union
          select day from worker.usage_events_default where day < p_before
           order by day
           limit least(greatest(p_limit, 1), 400)) d
$$;
revoke all on function worker.usage_prunable_days from public, anon, authenticated;
grant execute on function worker.usage_prunable_days to service_role;

-- Drops the events of one day. What they were is added to usage_pruned first, by tenant and month, in the same
-- transaction: an audit sees the events or the record, never both, never neither. Definer: the service role may neither
-- drop tables nor delete events.
--   Lock: the day's partition takes no further event while it is summed up; for the drop itself everything that uses the
--   events waits for an instant. Gives up after 2 s rather than hold up the bookings.
--   p_before  first day that is kept; days of the last 40 are kept whatever it says
--   returns   {status: pruned, events, tenants, tokens} | {status: kept} | {status: absent}; tokens as text
--   raises    55P03 when the bookings did not pause within 2 s (transient)
create or replace function worker.usage_prune_day(p_day date, p_before date) returns jsonb
language plpgsql volatile security definer
set search_path = '' set jit = off set work_mem = '64MB' set lock_timeout = '2s' set statement_timeout = '120s' as $$
declare
  v_part text := format('usage_events_%s', to_char(p_day, 'YYYYMMDD'));
  v_has_part boolean := to_regclass('worker.' || v_part) is not null;
  v_sums record;
begin
  if p_day >= p_before or p_day >= (now() at time zone 'UTC')::date - 40 then
    return jsonb_build_object('status', 'kept');
  end if;
  -- One at a time: two would add their sums twice before one of them finds nothing to drop.
  perform pg_advisory_xact_lock(hashtextextended('worker.usage_prune_day', 0));
  if v_has_part then
    if to_regclass('worker.' || v_part) is null then
      return jsonb_build_object('status', 'absent');
    end if;
    execute format('lock table worker.%I in share mode', v_part);
  else
    lock table worker.usage_events_default in share row exclusive mode;
    if not exists (select from worker.usage_events_default where day = p_day) then
      return jsonb_build_object('status', 'absent');
    end if;
  end if;

  with summed as (
    select e.period, e.tenant collate "C" as tenant, coalesce(min(b.shard), worker.usage_shard_of(e.tenant collate "C")) as shard,
           sum(e.tokens) as tokens, count(*) as events
      from worker.usage_events e
      left join worker.usage_batches b on b.batch_id = e.batch_id
     where e.day = p_day
     group by 1, 2),
  recorded as (
    insert into worker.usage_pruned as p (period, tenant, shard, tokens, events)
    select period, tenant, shard, tokens, events from summed order by period, tenant
    on conflict on constraint usage_pruned_pkey do update
      set tokens = p.tokens + excluded.tokens, events = p.events + excluded.events)
  select coalesce(sum(events), 0) as events, coalesce(sum(tokens), 0) as tokens, count(distinct tenant) as tenants
    into v_sums from summed;
  insert into worker.usage_pruned_days as d (day, events, tokens)
  values (p_day, v_sums.events, v_sums.tokens)
  on conflict on constraint usage_pruned_days_pkey do update
    set events = d.events + excluded.events, tokens = d.tokens + excluded.tokens, pruned_at = now();
  if v_has_part then
    execute format('drop table worker.%I', v_part);
  else
    delete from worker.usage_events_default where day = p_day;
  end if;
  return jsonb_build_object('status', 'pruned', 'events', v_sums.events, 'tenants', v_sums.tenants,
    'tokens', v_sums.tokens::text);
end $$;
revoke all on function worker.usage_prune_day from public, anon, authenticated;
grant execute on function worker.usage_prune_day to service_role;

-- Deletes old rows that nothing needs any more, oldest first. Call it until it deletes fewer than p_limit.
--   p_what    observations: of lineages that no cursor follows; lineages: all but the newest of their shard;
--             runs: with what became of their shards; batches: all but the newest of their shard and lineage, which
--             says what may be trimmed; drifts: that are repaired, superseded or findings only; repairs: that are settled
--             and whose drifts are gone; audit_findings; audits: without findings
--   p_before  older than this
--   p_limit   1 .. 10,000
--   returns   rows deleted
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_prune_rows(p_what text, p_before timestamptz, p_limit int) returns int
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '20s' as $$
declare
  v_deleted int;
begin
  if coalesce(p_limit, 0) not between 1 and 10000 or p_before is null then
    raise exception 'usage_argument_invalid: p_limit must be 1 to 10000' using errcode = 'UL001';
  end if;
  case p_what
    when 'observations' then
      delete from worker.usage_observations where (shard, inc) in (
        select o.shard, o.inc from worker.usage_observations o
         where o.observed_at < p_before
           and not exists (select from worker.usage_shards s where s.shard = o.shard and s.inc = o.inc)
         limit p_limit);
    when 'lineages' then
      delete from worker.usage_lineages where (shard, fork) in (
        select l.shard, l.fork from worker.usage_lineages l
         where l.ended_at < p_before
           and exists (select from worker.usage_lineages n where n.shard = l.shard and n.fork > l.fork)
         limit p_limit);
    when 'runs' then
      delete from worker.usage_runs where run_id in (
        select run_id from worker.usage_runs where started_at < p_before order by started_at limit p_limit);
    when 'batches' then
      delete from worker.usage_batches where batch_id in (
        select b.batch_id from worker.usage_batches b
         where b.applied_at < p_before
           and exists (select from worker.usage_batches n
                        where n.shard = b.shard and n.fork = b.fork and n.from_n > b.from_n)
         order by b.batch_id
         limit p_limit);
    when 'drifts' then
      delete from worker.usage_drifts where id in (
        select id from worker.usage_drifts
         where seen_at < p_before and state in ('found', 'repaired', 'superseded')
         order by id
         limit p_limit);
    when 'repairs' then
      delete from worker.usage_repairs where repair_id in (
        select r.repair_id from worker.usage_repairs r
         where r.settled_at < p_before
           and not exists (select from worker.usage_drifts d where d.repair_id = r.repair_id)
         limit p_limit);
    when 'audit_findings' then
      delete from worker.usage_audit_findings where id in (
        select f.id from worker.usage_audit_findings f
         where f.audit_id in (select audit_id from worker.usage_audits where started_at < p_before)
         limit p_limit);
    when 'audits' then
      delete from worker.usage_audits where audit_id in (
        select a.audit_id from worker.usage_audits a
         where a.started_at < p_before
           and not exists (select from worker.usage_audit_findings f where f.audit_id = a.audit_id)
         order by a.started_at
         limit p_limit);
    else
      raise exception 'usage_argument_invalid: p_what is not known' using errcode = 'UL001';
  end case;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end $$;
revoke all on function worker.usage_prune_rows from public, anon, authenticated;
grant execute on function worker.usage_prune_rows to service_role;
