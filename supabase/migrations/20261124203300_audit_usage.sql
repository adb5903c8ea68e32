-- Why: once a month every total is recomputed, and who differs is named with the cause.
-- Lock: none on what exists; tables, a view and functions are new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Audits of a month: every total recomputed from the ledger, the events and the batches.
create table if not exists worker.usage_audits (
  audit_id uuid not null,
  key text not null,                       -- what asked for it; asking twice is one audit
  period int not null,
  trigger text not null,
  requested_by text,
  status text not null default 'running',
  next_shard int not null default 0,       -- everything before it is compared; the only progress there is
  chunks int not null default 0,
  tenants bigint not null default 0,
  total numeric not null default 0,        -- of usage_totals
  ledger numeric not null default 0,       -- billed in the month
  used numeric not null default 0,         -- happened in the month, without corrections
  found numeric not null default 0,        -- of the events, with what was recorded of dropped days
  pruned numeric not null default 0,       -- part of found whose days were dropped
  causes jsonb not null default '{}',      -- {cause: {findings, tokens, largest}} when it is done
  differences bigint,                      -- findings that are no mere information
  period_state text,                       -- when it ended
  error_code text,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint usage_audits_pkey primary key (audit_id),
  constraint usage_audits_key_key unique (key),
  constraint usage_audits_period_check check (period between 200001 and 999912 and period % 100 between 1 and 12),
  constraint usage_audits_status_check check (status in ('running', 'succeeded', 'failed')),
  constraint usage_audits_finished_check check ((finished_at is not null) = (status in ('succeeded', 'failed'))),
  constraint usage_audits_next_shard_check check (next_shard between 0 and 65536)
);
create index if not exists usage_audits_started_at_idx on worker.usage_audits (started_at desc);
create index if not exists usage_audits_period_idx on worker.usage_audits (period, started_at desc);
alter table worker.usage_audits enable row level security;
grant select, insert, update, delete on worker.usage_audits to service_role;

-- One row for each tenant and cause, in the order in which causes are looked for.
create table if not exists worker.usage_audit_findings (
  id bigint generated always as identity,
  audit_id uuid not null,
  period int not null,
  tenant text collate "C",                 -- null when the finding is about a batch or a shard
  cause text not null,
  is_difference boolean not null,          -- false = information: explains numbers that agree
  tokens numeric not null,                 -- how far what is booked stands above (+) or below (-) the evidence
  events bigint not null,
  relative numeric,                        -- |tokens| by |total of the tenant|, six digits; null without a total
  evidence jsonb not null,
  constraint usage_audit_findings_pkey primary key (id),
  constraint usage_audit_findings_audit_id_fkey foreign key (audit_id) references worker.usage_audits (audit_id),
  constraint usage_audit_findings_cause_check check (
    cause in ('total_edited_outside_ledger', 'ledger_edited', 'double_applied', 'events_missing', 'events_not_booked',
      'events_edited', 'failed_batch', 'closed_period_changed', 'unexplained', 'quarantined', 'open_gap', 'late_event',
      'future_event'))
);
create index if not exists usage_audit_findings_audit_id_idx on worker.usage_audit_findings (audit_id, id);
create index if not exists usage_audit_findings_tenant_idx on worker.usage_audit_findings (tenant, period);
alter table worker.usage_audit_findings enable row level security;
grant select, insert, update, delete on worker.usage_audit_findings to service_role;

-- What each witness says about the months, row by row: for looking at some tenants or batches. The sums over everything
-- are taken from the tables themselves, because a view this wide costs twice as much.
--   by month and tenant            Σ total = Σ billed     Σ used = Σ found
--   by month, tenant and batch     Σ used = Σ found       as long as no day was dropped
-- total: usage_totals · billed: the ledger, by the month it bills · used: the ledger without corrections, by the month
-- the use happened in · found: the events, and what was recorded of dropped ones (pruned is that part).
-- A row without a batch, or whose batch is not kept any more, is of the shard that its tenant has totals in, else of 0.
create or replace view worker.usage_witnesses with (security_invoker = true) as
  select l.period,
         coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = l.tenant limit 1), 0) as shard,
         l.tenant, l.batch_id, 0::numeric as total, 0::bigint as total_events, l.tokens as billed,
         l.events::bigint as billed_events,
         case when l.usage_period = l.period and l.reason in ('usage', 'late', 'future', 'backfill') then l.tokens
              else 0::numeric end as used,
         case when l.usage_period = l.period and l.reason in ('usage', 'late', 'future', 'backfill') then l.events::bigint
              else 0::bigint end as used_events,
         0::numeric as found, 0::bigint as found_events, 0::numeric as pruned
    from worker.usage_ledger l
    left join worker.usage_batches b on b.batch_id = l.batch_id
  union all
  select l.usage_period,
         coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = l.tenant limit 1), 0),
         l.tenant, l.batch_id, 0, 0, 0, 0, l.tokens, l.events, 0, 0, 0
    from worker.usage_ledger l
    left join worker.usage_batches b on b.batch_id = l.batch_id
   where l.usage_period <> l.period and l.reason in ('usage', 'late', 'future', 'backfill')
  union all
  select e.period, coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = e.tenant limit 1), 0),
         e.tenant collate "C", e.batch_id, 0, 0, 0, 0, 0, 0, e.tokens, 1, 0
    from worker.usage_events e
    left join worker.usage_batches b on b.batch_id = e.batch_id
  union all
  select period, shard, tenant, null, 0, 0, 0, 0, 0, 0, tokens, events, tokens from worker.usage_pruned
  union all
  select period, shard, tenant, null, tokens, events, 0, 0, 0, 0, 0, 0, 0 from worker.usage_totals;
revoke all on worker.usage_witnesses from public, anon, authenticated;
grant select on worker.usage_witnesses to service_role;

-- Part of usage_audit_differences: why the numbers of one tenant differ. Pure. Three witnesses: the total, the ledger and
-- the events; who stands alone is wrong. Tokens say how far what is booked stands above the evidence.
--   p_total           total minus ledger
--   p_edited, p_added, p_removed  how far the ledger is wrong, because its batches say so: with as many uses as there
--                     should be, with more, with fewer
--   p_missing         booked uses whose events are gone; p_twice: the same, of a part of the log that was applied twice
--   p_extra           events that were never booked; p_changed: events whose amount is another one
--   p_open            ledger minus events where no batch says which of them is wrong
--   p_.._events       the same in numbers of uses
--   returns  side: ledger | events | both = whose batches are the evidence, null = the total's
create or replace function worker.usage_audit_causes(p_total numeric, p_total_events bigint, p_edited numeric,
  p_added numeric, p_added_events bigint, p_removed numeric, p_removed_events bigint, p_missing numeric,
  p_missing_events bigint, p_twice numeric, p_twice_events bigint, p_extra numeric, p_extra_events bigint,
  p_changed numeric, p_open numeric, p_open_events bigint)
returns table (cause text, tokens numeric, events bigint, side text)
language plpgsql immutable security invoker set search_path = '' as $$
declare
  -- The total minus what the ledger should say; wrong rows of the ledger are taken out step by step.
  v_off numeric := p_total + p_edited;
  v_off_events bigint := p_total_events;
  -- Rows that are too many, or too few, are an error of the ledger alone, unless the total went along with them.
  v_added_along boolean := p_added_events > 0 and (v_off_events in (0, -p_removed_events) or v_off in (0, -p_removed));
  v_removed_along boolean := p_removed_events < 0 and (v_off_events in (0, -p_added_events) or v_off in (0, -p_added));
  v_edited numeric := p_edited;
  v_edited_events bigint := 0;
begin
  if v_added_along then
    return query values ('double_applied', p_added, p_added_events, 'ledger');
  elsif p_added_events > 0 then
    v_edited := v_edited + p_added;
    v_edited_events := v_edited_events + p_added_events;
    v_off := v_off + p_added;
    v_off_events := v_off_events + p_added_events;
  end if;
  if v_removed_along then
    return query values ('events_not_booked', p_removed, p_removed_events, 'ledger');
  elsif p_removed_events < 0 then
    v_edited := v_edited + p_removed;
    v_edited_events := v_edited_events + p_removed_events;
    v_off := v_off + p_removed;
    v_off_events := v_off_events + p_removed_events;
  end if;

  if p_open <> 0 or p_open_events <> 0 then
    if v_off_events = -p_open_events and (v_off = -p_open or p_open_events <> 0) then
      v_edited := v_edited + p_open;                 -- the total stands with the events
      v_edited_events := v_edited_events + p_open_events;
      v_off := v_off + p_open;
      v_off_events := v_off_events + p_open_events;
    elsif v_off_events = 0 and (v_off = 0 or p_open_events <> 0) then
      if p_open_events > 0 then                      -- the total stands with the ledger
        p_missing := p_missing + p_open;
        p_missing_events := p_missing_events + p_open_events;
      elsif p_open_events < 0 then
        p_extra := p_extra - p_open;
        p_extra_events := p_extra_events - p_open_events;
      else
        p_changed := p_changed - p_open;
      end if;
    else
      return query values ('unexplained', p_open, p_open_events, 'both');
    end if;
  end if;

  -- A total whose tokens went along is right, whatever its number of uses says.
  if v_off <> 0 or (v_off_events <> 0 and not v_added_along and not v_removed_along) then
    return query values ('total_edited_outside_ledger', v_off, v_off_events, null::text);
  end if;
  return query
  select * from (values ('ledger_edited', v_edited, v_edited_events, 'ledger'),
                        ('double_applied', p_twice, p_twice_events, 'events'),
                        ('events_missing', p_missing, p_missing_events, 'events'),
                        ('events_not_booked', -p_extra, -p_extra_events, 'events'),
                        ('events_edited', -p_changed, 0::bigint, 'events')) as c (cause, tokens, events, side)
   where c.tokens <> 0 or c.events <> 0;
end $$;
revoke all on function worker.usage_audit_causes from public, anon, authenticated;
grant execute on function worker.usage_audit_causes to service_role;

-- Part of usage_audit_sums: uses of a month that are billed in another one. Usually a handful, which no statistics say:
-- without the setting the whole ledger would be read for them.
create or replace function worker.usage_audit_moved(p_period int)
returns table (tenant text, batch_id bigint, tokens numeric, events int)
language sql stable security invoker set search_path = '' set enable_seqscan = off as $$
  select l.tenant, l.batch_id, l.tokens, l.events
    from worker.usage_ledger l
   where l.usage_period = p_period and l.usage_period <> l.period
     and l.reason in ('usage', 'late', 'future', 'backfill')
$$;
revoke all on function worker.usage_audit_moved from public, anon, authenticated;
grant execute on function worker.usage_audit_moved to service_role;

-- Part of usage_audit_differences: one look at every row of a month and some shards. Sums by batch are exact. Whether the
-- numbers of all tenants agree is told by a mark: the sum of tokens times a number drawn for each tenant, by a seed that
-- is new in each call. Two sides with the same mark agree for every tenant (up to a chance of about 1 in 2^53); only when
-- they differ is it worth a sum for each tenant, which costs several times as much.
--   returns  one row: sums as {tenants, total, ledger, used, found, pruned}; is_off: some tenant differs; is_miscounted:
--            the numbers of uses differ; has_moved: some uses of the month are billed in another one, or the other way
--            round; batches: those whose row, ledger and events of this month do not say the same
create or replace function worker.usage_audit_sums(p_period int, p_from int, p_to int)
returns table (sums jsonb, is_off boolean, is_miscounted boolean, has_moved boolean, batches bigint[])
language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_seed bigint := (random() * 9007199254740992)::bigint;
  v_from timestamptz := worker.usage_period_start(p_period);
  v_until timestamptz := worker.usage_period_start(p_period) + interval '1 month';
  -- Events of dropped days are known by tenant only: then batches are not compared with them.
  v_is_pruned boolean := exists (
    select from worker.usage_pruned where period = p_period and shard between p_from and p_to);
begin
  return query
  with ledger as (
    select l.batch_id, sum(l.tokens) as billed, sum(l.events) as billed_events,
           sum(hashtextextended(l.tenant, v_seed) * l.tokens) as mark,
           coalesce(sum(l.tokens) filter (where is_unused), 0) as unused,
           coalesce(sum(l.events) filter (where is_unused), 0) as unused_events,
           coalesce(sum(hashtextextended(l.tenant, v_seed) * l.tokens) filter (where is_unused), 0) as unused_mark,
           bool_or(l.usage_period <> l.period) as has_moved
      from worker.usage_ledger l
      left join worker.usage_batches b on b.batch_id = l.batch_id
     cross join lateral (
        select l.usage_period <> l.period or l.reason not in ('usage', 'late', 'future', 'backfill') as is_unused) u
     where l.period = p_period
       and coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = l.tenant limit 1), 0)
           between p_from and p_to
     group by l.batch_id),
  moved as (
    select m.batch_id, sum(m.tokens) as tokens, sum(m.events) as events,
           sum(hashtextextended(m.tenant, v_seed) * m.tokens) as mark
      from worker.usage_audit_moved(p_period) m
      left join worker.usage_batches b on b.batch_id = m.batch_id
     where coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = m.tenant limit 1), 0)
           between p_from and p_to
     group by m.batch_id),
  event as (
    select e.batch_id, sum(e.tokens) as found, count(*) as found_events,
           sum(hashtextextended(e.tenant, v_seed) * e.tokens::numeric) as mark
      from worker.usage_events e
      left join worker.usage_batches b on b.batch_id = e.batch_id
     where e.period = p_period
       and coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = e.tenant limit 1), 0)
           between p_from and p_to
     group by e.batch_id),
  -- Also batches of the month of which nothing is left.
  recent as (
    select batch_id from worker.usage_batches
     where shard between p_from and p_to and applied > 0 and applied_at >= v_from and applied_at < v_until),
  part as (
    select batch_id, billed, billed_events, mark as billed_mark, billed - unused as used,
           billed_events - unused_events as used_events, mark - unused_mark as used_mark, 0::numeric as found,
           0::bigint as found_events, 0::numeric as found_mark, has_moved
      from ledger
    union all
    select batch_id, 0, 0, 0, tokens, events, mark, 0, 0, 0, true from moved
    union all
    select batch_id, 0, 0, 0, 0, 0, 0, found, found_events, mark, false from event
    union all
    select batch_id, 0, 0, 0, 0, 0, 0, 0, 0, 0, false from recent),
  batch as (
    select batch_id, sum(billed) as billed, sum(billed_events) as billed_events, sum(billed_mark) as billed_mark,
           sum(used) as used, sum(used_events) as used_events, sum(used_mark) as used_mark, sum(found) as found,
           sum(found_events) as found_events, sum(found_mark) as found_mark, bool_or(has_moved) as has_moved
      from part
     group by batch_id),
  rest as (
    select t.*, p.*
      from (select count(*) as tenants, coalesce(sum(tokens), 0) as total, coalesce(sum(events), 0) as total_events,
                   coalesce(sum(hashtextextended(tenant, v_seed) * tokens), 0) as total_mark
              from worker.usage_totals where period = p_period and shard between p_from and p_to) t
     cross join (
            select coalesce(sum(tokens), 0) as pruned, coalesce(sum(events), 0) as pruned_events,
                   coalesce(sum(hashtextextended(tenant, v_seed) * tokens), 0) as pruned_mark
              from worker.usage_pruned where period = p_period and shard between p_from and p_to) p)
  select jsonb_build_object('tenants', r.tenants, 'total', r.total::text, 'ledger', coalesce(sum(s.billed), 0)::text,
           'used', coalesce(sum(s.used), 0)::text, 'found', (coalesce(sum(s.found), 0) + r.pruned)::text,
           'pruned', r.pruned::text),
         r.total_mark <> coalesce(sum(s.billed_mark), 0)
           or coalesce(sum(s.used_mark), 0) <> coalesce(sum(s.found_mark), 0) + r.pruned_mark,
         r.total_events <> coalesce(sum(s.billed_events), 0)
           or coalesce(sum(s.used_events), 0) <> coalesce(sum(s.found_events), 0) + r.pruned_events,
         coalesce(bool_or(s.has_moved), false),
         coalesce(array_agg(b.batch_id) filter (
           where b.tokens <> s.used or b.applied <> s.used_events or b.seen <> b.applied + b.dup
              or (not v_is_pruned and (s.used <> s.found or s.used_events <> s.found_events))), '{}')
    from rest r
    left join batch s on true
    left join worker.usage_batches b on b.batch_id = s.batch_id
   group by r.tenants, r.total, r.total_events, r.total_mark, r.pruned, r.pruned_events, r.pruned_mark;
end $$;
revoke all on function worker.usage_audit_sums from public, anon, authenticated;
grant execute on function worker.usage_audit_sums to service_role;

-- Part of usage_audit_differences: which of these batches are wrong indeed. Most hold uses of another month, too, and
-- agree when those are counted.
--   p_compares_events  whether all events of the month are there to be compared
create or replace function worker.usage_audit_suspects(p_batches bigint[], p_period int, p_compares_events boolean)
returns bigint[] language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' set plan_cache_mode = force_custom_plan as $$
begin
  if p_batches = '{}' then
    return '{}';
  end if;
  return array(
    select b.batch_id
      from worker.usage_batches b
      join unnest(p_batches) as s (id) on s.id = b.batch_id
      left join (
        select l.batch_id, sum(l.tokens) as tokens, sum(l.events) as events,
               coalesce(sum(l.tokens) filter (where l.usage_period = p_period), 0) as used,
               coalesce(sum(l.events) filter (where l.usage_period = p_period), 0) as used_events
          from worker.usage_ledger l
          join unnest(p_batches) as s (id) on s.id = l.batch_id
         where l.reason in ('usage', 'late', 'future', 'backfill')
         group by l.batch_id) l on l.batch_id = b.batch_id
      left join (
        select e.batch_id, sum(e.tokens) as tokens, count(*) as events
          from worker.usage_events e
          join unnest(p_batches) as s (id) on s.id = e.batch_id
         where e.period = p_period and p_compares_events
         group by e.batch_id) e on e.batch_id = b.batch_id
     where coalesce(l.tokens, 0) <> b.tokens or coalesce(l.events, 0) <> b.applied or b.seen <> b.applied + b.dup
        or (p_compares_events and (coalesce(l.used, 0) <> coalesce(e.tokens, 0)
                                   or coalesce(l.used_events, 0) <> coalesce(e.events, 0))));
end $$;
revoke all on function worker.usage_audit_suspects from public, anon, authenticated;
grant execute on function worker.usage_audit_suspects to service_role;

-- Part of usage_audit_differences: the tenants of a month and some shards whose total is not the sum of their ledger, or
-- whose events are not what the ledger says was used. First in which of 4096 groups of tenants something differs, by the
-- mark of usage_audit_sums, then a sum for each tenant of those groups. Who is listed is then looked at exactly.
--   p_measure  tokens | events
create or replace function worker.usage_audit_tenants(p_period int, p_from int, p_to int, p_measure text)
returns text[] language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' as $$
declare
  v_seed bigint := (random() * 9007199254740992)::bigint;
  -- Both sides of both comparisons, one row for each row of the tables.
  v_rows constant text := replace(replace($sum$
    select tenant, ?::numeric as billed, 0::numeric as used
      from worker.usage_totals
     where period = $1 and shard between $2 and $3
    union all
    select l.tenant, -l.?::numeric,
           case when l.usage_period = l.period and l.reason in ('usage', 'late', 'future', 'backfill')
                then l.?::numeric else 0::numeric end
      from worker.usage_ledger l left join worker.usage_batches b on b.batch_id = l.batch_id
     where l.period = $1
       and coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = l.tenant limit 1), 0)
           between $2 and $3
    union all
    select m.tenant, 0::numeric, m.?::numeric
      from worker.usage_audit_moved($1) m left join worker.usage_batches b on b.batch_id = m.batch_id
     where coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = m.tenant limit 1), 0)
           between $2 and $3
    union all
    select e.tenant collate "C", 0::numeric, -(!)::numeric
      from worker.usage_events e left join worker.usage_batches b on b.batch_id = e.batch_id
     where e.period = $1
       and coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = e.tenant limit 1), 0)
           between $2 and $3
    union all
    select tenant, 0::numeric, -?::numeric
      from worker.usage_pruned
     where period = $1 and shard between $2 and $3 $sum$,
    '?', p_measure), '!', case p_measure when 'tokens' then 'e.tokens' else '1' end);
  v_groups int[];
  v_differing text[];
begin
  execute format($sum$
    select coalesce(array_agg(place), '{}')
      from (select hashtextextended(tenant, $4)::bit(12)::int as place
              from (%s) witness
             group by 1
            having sum(hashtextextended(tenant, $4) * billed) <> 0
                or sum(hashtextextended(tenant, $4) * used) <> 0) g $sum$, v_rows)
    into v_groups using p_period, p_from, p_to, v_seed;
  execute format($sum$
    select coalesce(array_agg(tenant), '{}')
      from (select tenant
              from (%s) witness
             where hashtextextended(tenant, $4)::bit(12)::int = any ($5)
             group by tenant
            having sum(billed) <> 0 or sum(used) <> 0) t $sum$, v_rows)
    into v_differing using p_period, p_from, p_to, v_seed, v_groups;
  return v_differing;
end $$;
revoke all on function worker.usage_audit_tenants from public, anon, authenticated;
grant execute on function worker.usage_audit_tenants to service_role;

-- Part of usage_audit_differences: batches whose row, ledger and events say different things, although the numbers of
-- no tenant differ. When ledger, total and events were raised together the same use stands on two days: that names the
-- tenant.
--   returns  findings: double_applied with a tenant, failed_batch without one
create or replace function worker.usage_audit_batches(p_batches bigint[])
returns table (tenant text, cause text, tokens numeric, events bigint, relative numeric, evidence jsonb)
language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  if p_batches = '{}' then
    return;
  end if;
  return query
  with event as (
    select e.batch_id, e.tenant collate "C" as tenant, e.uid, e.tokens,
           row_number() over (partition by e.batch_id, e.uid order by e.day) as place
      from worker.usage_events e join unnest(p_batches) as s (id) on s.id = e.batch_id),
  found as (
    select batch_id, sum(tokens) as tokens, count(*) as events from event group by batch_id),
  booked as (
    select batch_id, sum(tokens) as tokens, sum(events)::bigint as events
      from worker.usage_ledger join unnest(p_batches) as s (id) on s.id = batch_id
     where reason in ('usage', 'late', 'future', 'backfill')
     group by batch_id),
  twice as (
    select batch_id, tenant, sum(tokens) as tokens, count(*) as events,
           (array_agg(uid::text order by uid))[1:20] as uids
      from event
     where place > 1
     group by batch_id, tenant),
  named as (
    select batch_id, sum(tokens) as tokens, sum(events)::bigint as events from twice group by batch_id),
  fact as (
    select b.*, coalesce(l.tokens, 0) as ledger, coalesce(l.events, 0) as ledger_events, coalesce(f.tokens, 0) as found,
           coalesce(f.events, 0) as found_events,
           coalesce(n.tokens, 0) as named, coalesce(n.events, 0) as named_events,
           coalesce(l.tokens, 0) - b.tokens as off, coalesce(l.events, 0) - b.applied as off_events
      from worker.usage_batches b
      join unnest(p_batches) as s (id) on s.id = b.batch_id
      left join booked l on l.batch_id = b.batch_id
      left join found f on f.batch_id = b.batch_id
      left join named n on n.batch_id = b.batch_id)
  select t.tenant, 'double_applied', t.tokens, t.events, null::numeric,
         jsonb_build_object('batches', jsonb_build_array(t.batch_id::text), 'uids', to_jsonb(t.uids))
    from twice t join fact f on f.batch_id = t.batch_id
   where f.off = f.named and f.off_events = f.named_events
  union all
  select null, 'failed_batch',
         case when off <> 0 or off_events <> 0 or seen <> applied + dup then off else ledger - found end,
         case when off <> 0 or off_events <> 0 or seen <> applied + dup then off_events
              else ledger_events - found_events end, null,
         jsonb_build_object('batch', batch_id::text, 'shard', shard, 'seen', seen, 'applied', applied, 'dup', dup,
           'tokens', tokens::text, 'ledger', ledger::text, 'events', found::text)
    from fact
   where seen <> applied + dup or off <> named or off_events <> named_events or named_events = 0;
end $$;
revoke all on function worker.usage_audit_batches from public, anon, authenticated;
grant execute on function worker.usage_audit_batches to service_role;

-- Part of usage_audit_differences: what else is known about a month and some shards. Information, but for a closed month
-- that is not what it was when it was closed.
--   p_has_moved  whether any use of the month is billed in another one, or the other way round
create or replace function worker.usage_audit_context(p_period int, p_from int, p_to int, p_has_moved boolean)
returns table (tenant text, cause text, tokens numeric, events bigint, relative numeric, evidence jsonb)
language plpgsql stable security invoker set search_path = '' set jit = off set work_mem = '64MB' as $$
#variable_conflict use_column
declare
  p worker.usage_periods;
begin
  select * into p from worker.usage_periods where period = p_period;
  if p.state = 'closed' then
    return query
    select l.tenant, 'closed_period_changed', sum(l.tokens), sum(l.events)::bigint, null::numeric,
           jsonb_build_object('closedAt', p.closed_at, 'ledger', to_jsonb((array_agg(l.id::text order by l.id))[1:20]))
      from worker.usage_ledger l
      join worker.usage_totals t on t.tenant = l.tenant and t.period = l.period and t.shard between p_from and p_to
     where l.period = p_period and l.booked_at > p.closed_at
     group by l.tenant;
  end if;
  if p.sealed_at is not null then
    return query
    select null::text, 'closed_period_changed', coalesce(d.tokens, 0) - coalesce(s.tokens, 0),
           coalesce(d.events, 0) - coalesce(s.events, 0), null::numeric,
           jsonb_build_object('shard', coalesce(s.shard, d.shard), 'sealed', s.checksum, 'found', d.checksum)
      from (select * from worker.usage_period_shards
             where period = p_period and shard between p_from and p_to and checksum is not null) s
      full join worker.usage_shard_digests(p_period, p_from, p_to) d on d.shard = s.shard
     where s.checksum is distinct from d.checksum;
  end if;

  return query
  select q.tenant, 'quarantined', coalesce(sum(q.tokens), 0), count(*), null::numeric,
         jsonb_build_object('quarantine', to_jsonb((array_agg(q.id::text order by q.id))[1:20]))
    from worker.usage_quarantine q
   where q.resolved_at is null and q.period = p_period and q.shard between p_from and p_to
   group by q.tenant;
  return query
  select null::text, 'open_gap', sum(g.tokens_lost - g.recovered), sum(g.entries_lost - g.entries_recovered)::bigint,
         null::numeric,
         jsonb_build_object('shard', g.shard, 'gapCause', g.cause, 'gaps', to_jsonb((array_agg(g.id::text order by g.id))[1:20]))
    from worker.usage_gaps g
   where g.shard between p_from and p_to and (g.tokens_lost <> g.recovered or g.entries_lost <> g.entries_recovered)
     and g.detected_at >= worker.usage_period_start(p_period)
     and g.detected_at < worker.usage_period_start(p_period) + interval '1 month' + interval '35 days'
   group by g.shard, g.cause;
  if not p_has_moved then
    return;
  end if;
  return query
  select l.tenant, l.reason || '_event', sum(l.tokens), sum(l.events)::bigint, null::numeric,
         jsonb_build_object('happenedIn', l.usage_period, 'billedIn', l.period,
           'ledger', to_jsonb((array_agg(l.id::text order by l.id))[1:20]))
    from (select * from worker.usage_ledger where usage_period = p_period and usage_period <> period and period <> p_period
          union all
          select * from worker.usage_ledger where period = p_period and usage_period <> p_period) l
    join worker.usage_batches b on b.batch_id = l.batch_id and b.shard between p_from and p_to
   where l.reason in ('late', 'future')
   group by l.tenant, l.reason, l.usage_period, l.period;
end $$;
revoke all on function worker.usage_audit_context from public, anon, authenticated;
grant execute on function worker.usage_audit_context to service_role;

-- Part of usage_audit_shards: compares everything that is known about a month and some shards, at one instant. Who
-- differs is found with sums over all rows; only then are the rows of those tenants and batches looked at.
--   p_from, p_to  shards, both included
--   returns  the findings, and one row without a cause whose evidence is {tenants, total, ledger, used, found, pruned}
--            evidence of a tenant: {total, ledger, used, found, pruned, batches}; of a batch: {batch, shard, seen, applied,
--            dup, tokens, ledger, events}. At most 20 ids of each kind
create or replace function worker.usage_audit_differences(p_period int, p_from int, p_to int)
returns table (tenant text, cause text, tokens numeric, events bigint, relative numeric, evidence jsonb)
language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  -- Events of dropped days are known by tenant only: then no batch can say whose fault a difference is.
  v_is_pruned boolean := exists (
    select from worker.usage_pruned where period = p_period and shard between p_from and p_to);
  v_tenants text[] := '{}';
  v_batches bigint[];
  v_sums record;
begin
  select * into v_sums from worker.usage_audit_sums(p_period, p_from, p_to);
  if v_sums.is_off then
    v_tenants := worker.usage_audit_tenants(p_period, p_from, p_to, 'tokens');
  end if;
  if v_sums.is_miscounted then
    v_tenants := array(select unnest(v_tenants)
                       union
                       select unnest(worker.usage_audit_tenants(p_period, p_from, p_to, 'events')));
  end if;
  -- A batch may hold uses of several months: its own row is compared with all it booked.
  v_batches := worker.usage_audit_suspects(v_sums.batches, p_period, not v_is_pruned);
  return query select null::text, null::text, 0::numeric, 0::bigint, null::numeric, v_sums.sums;

  if v_tenants <> '{}' or v_batches <> '{}' then
    return query
    with suspect as (
      select b.*, coalesce(l.tokens, 0) - b.tokens as off, coalesce(l.events, 0) - b.applied as off_events
        from worker.usage_batches b
        join unnest(v_batches) as s (id) on s.id = b.batch_id
        left join (
          select batch_id, sum(tokens) as tokens, sum(events) as events
            from worker.usage_ledger join unnest(v_batches) as s (id) on s.id = batch_id
           where reason in ('usage', 'late', 'future', 'backfill')
           group by batch_id) l on l.batch_id = b.batch_id),
    cell as (
      select w.tenant, w.batch_id, w.tenant = any (v_tenants) as is_listed, sum(total) as total,
             sum(total_events) as total_events, sum(billed) as billed, sum(billed_events) as billed_events,
             sum(used) as used, sum(used_events) as used_events, sum(found) as found, sum(pruned) as pruned,
             sum(used - found) as apart,
             sum(used_events - found_events) as apart_events
        from worker.usage_witnesses w
       where w.period = p_period and w.shard between p_from and p_to
         and (w.tenant = any (v_tenants) or w.batch_id = any (v_batches))
       group by w.tenant, w.batch_id),
    batch as (
      select s.*, coalesce(c.apart, 0) as apart, coalesce(c.apart_events, 0) as apart_events, coalesce(c.cells, 0) as cells,
             coalesce(c.is_named, false) as is_named
        from suspect s
        left join (
          select batch_id, sum(apart) as apart, sum(apart_events) as apart_events, count(*) as cells,
                 bool_or(is_listed) as is_named
            from cell
           where case when v_is_pruned then is_listed else apart <> 0 or apart_events <> 0 end
           group by batch_id) c on c.batch_id = s.batch_id),
    judged as ( -- whose fault a cell is, as far as its batch can say
      select c.*, b.off, b.off_events, b.inc, b.from_n, b.to_n, b.shard,
             case when v_is_pruned then 'open'
                  when b.batch_id is null then case when c.used_events = 0 and c.used = 0 then 'events' else 'open' end
                  when b.off = 0 and b.off_events = 0 and (b.apart <> 0 or b.apart_events <> 0) then 'events'
                  when b.off = 0 and b.off_events = 0 then 'open' -- moved from one tenant to another
                  when b.off = b.apart and b.off_events = b.apart_events then 'ledger'
                  when b.cells = 1 then 'both'
                  else 'open' end as fault
        from cell c
        left join batch b on b.batch_id = c.batch_id
       where c.is_listed and (c.apart <> 0 or c.apart_events <> 0)),
    part as (
      select tenant, batch_id, fault,
             case fault when 'ledger' then apart when 'both' then off else 0 end as ledger,
             case fault when 'ledger' then apart_events when 'both' then off_events else 0 end as ledger_events,
             case fault when 'events' then -apart when 'both' then off - apart else 0 end as wrong,
             case fault when 'events' then -apart_events when 'both' then off_events - apart_events else 0 end as wrong_events,
             case fault when 'open' then apart else 0 end as open,
             case fault when 'open' then apart_events else 0 end as open_events,
             (select max(x.batch_id) from worker.usage_batches x
               where x.shard = j.shard and x.inc = j.inc and x.batch_id <> j.batch_id and x.applied > 0 and j.from_n > 0
                 and x.from_n <= j.to_n and x.to_n >= j.from_n) as twin
        from judged j),
    fault as (
      select tenant, coalesce(sum(ledger) filter (where ledger_events = 0), 0) as edited,
             coalesce(sum(ledger) filter (where ledger_events > 0), 0) as added,
             coalesce(sum(ledger_events) filter (where ledger_events > 0), 0)::bigint as added_events,
             coalesce(sum(ledger) filter (where ledger_events < 0), 0) as removed,
             coalesce(sum(ledger_events) filter (where ledger_events < 0), 0)::bigint as removed_events,
             coalesce(-sum(wrong) filter (where wrong_events < 0 and twin is null), 0) as missing,
             coalesce(-sum(wrong_events) filter (where wrong_events < 0 and twin is null), 0)::bigint as missing_events,
             coalesce(-sum(wrong) filter (where wrong_events < 0 and twin is not null), 0) as twice,
             coalesce(-sum(wrong_events) filter (where wrong_events < 0 and twin is not null), 0)::bigint as twice_events,
             coalesce(sum(wrong) filter (where wrong_events > 0), 0) as extra,
             coalesce(sum(wrong_events) filter (where wrong_events > 0), 0)::bigint as extra_events,
             coalesce(sum(wrong) filter (where wrong_events = 0), 0) as changed,
             sum(open) as open, sum(open_events)::bigint as open_events,
             (array_agg(batch_id::text order by batch_id) filter (where fault <> 'events'))[1:20] as ledger_batches,
             (array_agg(batch_id::text order by batch_id) filter (where fault <> 'ledger'))[1:20] as event_batches,
             (array_agg(twin::text order by twin) filter (where twin is not null and wrong_events < 0))[1:20] as twins
        from part
       group by tenant),
    fact as (
      select tenant, sum(total) as total, sum(billed) as billed, sum(used) as used, sum(found) as found,
             sum(pruned) as pruned, sum(total_events - billed_events)::bigint as off_events
        from cell
       where is_listed
       group by tenant)
    select t.tenant, c.cause, c.tokens, c.events, round(abs(c.tokens) / nullif(abs(t.total), 0), 6),
           jsonb_strip_nulls(jsonb_build_object('total', t.total::text, 'ledger', t.billed::text, 'used', t.used::text,
             'found', t.found::text, 'pruned', case when t.pruned <> 0 then t.pruned::text end,
             'batches', to_jsonb(case c.side when 'ledger' then f.ledger_batches when 'events' then f.event_batches
                                   when 'both' then f.event_batches end),
             'appliedBefore', case when c.cause = 'double_applied' then to_jsonb(f.twins) end))
      from fact t
      left join fault f on f.tenant = t.tenant
     cross join lateral worker.usage_audit_causes(t.total - t.billed, t.off_events, coalesce(f.edited, 0),
             coalesce(f.added, 0), coalesce(f.added_events, 0), coalesce(f.removed, 0), coalesce(f.removed_events, 0),
             coalesce(f.missing, 0), coalesce(f.missing_events, 0), coalesce(f.twice, 0),
             coalesce(f.twice_events, 0), coalesce(f.extra, 0), coalesce(f.extra_events, 0), coalesce(f.changed, 0),
             coalesce(f.open, 0), coalesce(f.open_events, 0)) c
    union all
    select * from worker.usage_audit_batches(array(
             select batch_id from batch
              where seen <> applied + dup
                 or (not is_named and (off <> 0 or off_events <> 0 or apart <> 0 or apart_events <> 0))));
  end if;
  return query select * from worker.usage_audit_context(p_period, p_from, p_to, v_sums.has_moved);
end $$;
revoke all on function worker.usage_audit_differences from public, anon, authenticated;
grant execute on function worker.usage_audit_differences to service_role;

-- Starts the audit of a month, or finds the one that was asked for with the same key; one that failed goes on where it
-- ended.
--   p_trigger  timer | close | manual
--   returns    {auditId, status, nextShard, rows}; rows = an estimate of what has to be read
create or replace function worker.usage_start_audit(p_key text, p_period int, p_trigger text, p_who text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  a worker.usage_audits;
begin
  insert into worker.usage_audits (audit_id, key, period, trigger, requested_by)
  values (gen_random_uuid(), p_key, p_period, p_trigger, p_who)
  on conflict on constraint usage_audits_key_key do update
    set status = 'running', error_code = null, finished_at = null, updated_at = now()
    where usage_audits.status = 'failed';
  select * into a from worker.usage_audits where key = p_key;
  return jsonb_build_object('auditId', a.audit_id, 'status', a.status, 'nextShard', a.next_shard, 'rows', (
    -- The events of about a month, and the ledger by what the statistics last said.
    select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
      from pg_catalog.pg_class c
     where c.relnamespace = 'worker'::regnamespace
       and (c.relname = 'usage_ledger' or c.relname ~ ('^usage_events_' || a.period || '\d{2}$'))));
end $$;
revoke all on function worker.usage_start_audit from public, anon, authenticated;
grant execute on function worker.usage_start_audit to service_role;

-- Audits a range of shards: findings, sums and progress in one transaction. Only the range that follows what was done
-- is taken, so a repeated or a concurrent call changes nothing.
--   p_from, p_to  shards, both included; p_to 65535 = the rest
--   returns  {status: audited | stale | ended, nextShard, differences}; ended = the audit is not running
--          | {status: busy}     somebody else is at it
--          | {status: unknown}
create or replace function worker.usage_audit_shards(p_audit uuid, p_from int, p_to int) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
#variable_conflict use_column
declare
  a worker.usage_audits;
  v_sums jsonb;
  v_differences bigint;
begin
  select * into a from worker.usage_audits where audit_id = p_audit for update skip locked;
  if not found then
    return jsonb_build_object('status', case when exists (select from worker.usage_audits where audit_id = p_audit)
                                             then 'busy' else 'unknown' end);
  end if;
  if a.status <> 'running' or a.next_shard <> p_from or p_to < p_from then
    return jsonb_build_object('status', case when a.status = 'running' then 'stale' else 'ended' end,
      'nextShard', a.next_shard, 'differences', 0);
  end if;
  -- Before the statement below takes its snapshot: from here on no day is dropped, so its events or its record is seen.
  lock table worker.usage_events in access share mode;
  with finding as materialized (
    select * from worker.usage_audit_differences(a.period, p_from, p_to)),
  stored as (
    insert into worker.usage_audit_findings (audit_id, period, tenant, cause, is_difference, tokens, events, relative,
      evidence)
    select p_audit, a.period, tenant, cause, cause not in ('quarantined', 'open_gap', 'late_event', 'future_event'), tokens,
           events, relative, evidence
      from finding
     where cause is not null
     order by array_position(array['total_edited_outside_ledger', 'ledger_edited', 'double_applied', 'events_missing',
       'events_not_booked', 'events_edited', 'failed_batch', 'closed_period_changed', 'unexplained', 'quarantined',
       'open_gap', 'late_event', 'future_event'], cause), tenant
    returning is_difference)
  select (select evidence from finding where cause is null), (select count(*) from stored where is_difference)
    into v_sums, v_differences;
  update worker.usage_audits
     set next_shard = p_to + 1, chunks = chunks + 1, updated_at = now(),
         tenants = tenants + (v_sums ->> 'tenants')::bigint, total = total + (v_sums ->> 'total')::numeric,
         ledger = ledger + (v_sums ->> 'ledger')::numeric, used = used + (v_sums ->> 'used')::numeric,
         found = found + (v_sums ->> 'found')::numeric, pruned = pruned + (v_sums ->> 'pruned')::numeric
   where audit_id = p_audit;
  return jsonb_build_object('status', 'audited', 'nextShard', p_to + 1, 'differences', v_differences);
end $$;
revoke all on function worker.usage_audit_shards from public, anon, authenticated;
grant execute on function worker.usage_audit_shards to service_role;

-- Ends an audit: all shards were compared, or it is given up with an error code. Repeating it changes nothing.
--   returns  {status: succeeded | failed | running, differences, causes: {cause: {findings, tokens, largest}}}
--            running = shards are left; causes as text amounts, largest = the greatest |tokens| of one finding
create or replace function worker.usage_finish_audit(p_audit uuid, p_error text default null) returns jsonb
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '20s' as $$
declare
  a worker.usage_audits;
begin
  select * into a from worker.usage_audits where audit_id = p_audit for update;
  if a.status = 'running' and (p_error is not null or a.next_shard = 65536) then
    update worker.usage_audits
       set status = case when p_error is null then 'succeeded' else 'failed' end, error_code = p_error,
           finished_at = clock_timestamp(), updated_at = now(),
           period_state = coalesce((select state from worker.usage_periods where period = a.period), 'open'),
           differences = (select count(*) from worker.usage_audit_findings where audit_id = p_audit and is_difference),
           causes = (select coalesce(jsonb_object_agg(cause, jsonb_build_object('findings', findings,
                              'tokens', tokens::text, 'largest', largest::text)), '{}')
                       from (select cause, count(*) as findings, sum(tokens) as tokens, max(abs(tokens)) as largest
                               from worker.usage_audit_findings where audit_id = p_audit group by cause) c)
     where audit_id = p_audit
    returning * into a;
  end if;
  return jsonb_build_object('status', coalesce(a.status, 'failed'), 'differences', coalesce(a.differences, 0),
    'causes', coalesce(a.causes, '{}'));
end $$;
revoke all on function worker.usage_finish_audit from public, anon, authenticated;
grant execute on function worker.usage_finish_audit to service_role;

-- An audit as its readers see it.
--   returns  {auditId, period, trigger, requestedBy, status, periodState, percent, tenants, total, ledger, used, found,
--            pruned, differences, causes: {cause: {findings, tokens, largest}}, errorCode, startedAt, finishedAt};
--            amounts as text
create or replace function worker.usage_audit_summary(p_audit worker.usage_audits) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('auditId', p_audit.audit_id, 'period', p_audit.period, 'trigger', p_audit.trigger,
    'requestedBy', p_audit.requested_by, 'status', p_audit.status, 'periodState', p_audit.period_state,
    'percent', least(100, round(p_audit.next_shard * 100.0 / 256, 1)), 'tenants', p_audit.tenants::text,
    'total', p_audit.total::text, 'ledger', p_audit.ledger::text, 'used', p_audit.used::text,
    'found', p_audit.found::text, 'pruned', p_audit.pruned::text, 'differences', p_audit.differences::text,
    'causes', p_audit.causes, 'errorCode', p_audit.error_code, 'startedAt', p_audit.started_at,
    'finishedAt', p_audit.finished_at)
$$;
revoke all on function worker.usage_audit_summary from public, anon, authenticated;
grant execute on function worker.usage_audit_summary to service_role;

-- Audits, newest first.
--   p_period  only of this month; null = all
--   p_before  only those that started before; null = from the newest
--   p_limit   1 .. 100
--   returns   [audit], see usage_audit_summary
create or replace function worker.usage_read_audits(p_period int default null, p_before timestamptz default null,
  p_limit int default 20) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(worker.usage_audit_summary(a) order by a.started_at desc), '[]')
    from (select * from worker.usage_audits
           where (p_period is null or period = p_period) and (p_before is null or started_at < p_before)
           order by started_at desc
           limit least(greatest(p_limit, 1), 100)) a
$$;
revoke all on function worker.usage_read_audits from public, anon, authenticated;
grant execute on function worker.usage_read_audits to service_role;

-- One audit, or null.
create or replace function worker.usage_read_audit(p_audit uuid) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select worker.usage_audit_summary(a) from worker.usage_audits a where audit_id = p_audit
$$;
revoke all on function worker.usage_read_audit from public, anon, authenticated;
grant execute on function worker.usage_read_audit to service_role;

-- Findings of an audit, in the order in which they were found.
--   p_cause, p_tenant  only those; null = all
--   p_differences      true = without those that only explain; null = all
--   p_after   id of the last row of the page before; null = from the start
--   p_limit   1 .. 10,000
--   returns   {rows: [{id, tenant, cause, isDifference, tokens, events, relative, evidence}], next}; ids and amounts as
--             text, next = p_after of the following page or null
create or replace function worker.usage_read_findings(p_audit uuid, p_cause text default null, p_tenant text default null,
  p_differences boolean default null, p_after bigint default null, p_limit int default 100) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_audit_findings
     where audit_id = p_audit and (p_cause is null or cause = p_cause) and (p_tenant is null or tenant = p_tenant)
       and (p_differences is null or is_difference = p_differences) and (p_after is null or id > p_after)
     order by id
     limit least(greatest(p_limit, 1), 10000))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'tenant', tenant, 'cause', cause,
        'isDifference', is_difference, 'tokens', tokens::text, 'events', events::text, 'relative', relative::text,
        'evidence', evidence) order by id), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 10000) then max(id)::text end)
    from page
$$;
revoke all on function worker.usage_read_findings from public, anon, authenticated;
grant execute on function worker.usage_read_findings to service_role;
