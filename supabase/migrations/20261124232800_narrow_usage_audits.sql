-- When something differs in a month, an audit looks for the tenants in the shards that differ and not in all of them.
-- Why: the search cost as much as all the rest. Lock: none on data; replaces two functions, and one of them is dropped
--   first because it answers more. A transaction of its own: if it stops halfway, nothing happened. Old code goes on
--   working.

drop function if exists worker.usage_audit_sums(int, int, int);

-- Part of usage_audit_differences: one look at every row of a month and some shards. Sums by batch are exact. Whether the
-- numbers of all tenants agree is told by a mark: the sum of tokens times a number drawn for each tenant, by a seed that
-- is new in each call. Two sides with the same mark agree for every tenant (up to a chance of about 1 in 2^53); only when
-- they differ is it worth a sum for each tenant, which costs several times as much.
--   returns  one row: sums as {tenants, total, ledger, used, found, pruned}; is_off: some tenant differs; is_miscounted:
--            the numbers of uses differ; off_from, off_to: the shards between which they do, both included; has_moved:
--            some uses of the month are billed in another one, or the other way round; batches: those whose row, ledger
--            and events of this month do not say the same
create or replace function worker.usage_audit_sums(p_period int, p_from int, p_to int)
returns table (sums jsonb, is_off boolean, is_miscounted boolean, off_from int, off_to int, has_moved boolean,
  batches bigint[])
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
    select l.batch_id, u.shard, sum(l.tokens) as billed, sum(l.events) as billed_events,
           sum(hashtextextended(l.tenant, v_seed) * l.tokens) as mark,
           coalesce(sum(l.tokens) filter (where is_unused), 0) as unused,
           coalesce(sum(l.events) filter (where is_unused), 0) as unused_events,
           coalesce(sum(hashtextextended(l.tenant, v_seed) * l.tokens) filter (where is_unused), 0) as unused_mark,
           bool_or(l.usage_period <> l.period) as has_moved
      from worker.usage_ledger l
      left join worker.usage_batches b on b.batch_id = l.batch_id
     cross join lateral (
        select l.usage_period <> l.period or l.reason not in ('usage', 'late', 'future', 'backfill') as is_unused,
               coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = l.tenant limit 1), 0)
                 as shard) u
     where l.period = p_period and u.shard between p_from and p_to
     group by l.batch_id, u.shard),
  moved as (
    select m.batch_id, u.shard, sum(m.tokens) as tokens, sum(m.events) as events,
           sum(hashtextextended(m.tenant, v_seed) * m.tokens) as mark
      from worker.usage_audit_moved(p_period) m
      left join worker.usage_batches b on b.batch_id = m.batch_id
     cross join lateral (
        select coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = m.tenant limit 1), 0)
                 as shard) u
     where u.shard between p_from and p_to
     group by m.batch_id, u.shard),
  event as (
    select e.batch_id, u.shard, sum(e.tokens) as found, count(*) as found_events,
           sum(hashtextextended(e.tenant, v_seed) * e.tokens::numeric) as mark
      from worker.usage_events e
      left join worker.usage_batches b on b.batch_id = e.batch_id
     cross join lateral (
        select coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = e.tenant limit 1), 0)
                 as shard) u
     where e.period = p_period and u.shard between p_from and p_to
     group by e.batch_id, u.shard),
  -- Also batches of the month of which nothing is left.
  recent as (
    select batch_id, shard from worker.usage_batches
     where shard between p_from and p_to and applied > 0 and applied_at >= v_from and applied_at < v_until),
  part as (
    select batch_id, shard, billed, billed_events, mark as billed_mark, billed - unused as used,
           billed_events - unused_events as used_events, mark - unused_mark as used_mark, 0::numeric as found,
           0::bigint as found_events, 0::numeric as found_mark, has_moved
      from ledger
    union all
    select batch_id, shard, 0, 0, 0, tokens, events, mark, 0, 0, 0, true from moved
    union all
    select batch_id, shard, 0, 0, 0, 0, 0, 0, found, found_events, mark, false from event
    union all
    select batch_id, shard, 0, 0, 0, 0, 0, 0, 0, 0, 0, false from recent),
  batch as (
    select batch_id, sum(billed) as billed, sum(billed_events) as billed_events, sum(billed_mark) as billed_mark,
           sum(used) as used, sum(used_events) as used_events, sum(used_mark) as used_mark, sum(found) as found,
           sum(found_events) as found_events, sum(found_mark) as found_mark, bool_or(has_moved) as has_moved
      from part
     group by batch_id),
  place as ( -- what each shard says
    select shard, sum(tenants) as tenants, sum(total) as total, sum(total_events) as total_events,
           sum(total_mark) as total_mark, sum(pruned) as pruned, sum(pruned_events) as pruned_events,
           sum(pruned_mark) as pruned_mark, sum(billed_events) as billed_events, sum(billed_mark) as billed_mark,
           sum(used_events) as used_events, sum(used_mark) as used_mark, sum(found_events) as found_events,
           sum(found_mark) as found_mark
      from (select shard, count(*) as tenants, sum(tokens) as total, sum(events) as total_events,
                   sum(hashtextextended(tenant, v_seed) * tokens) as total_mark, 0 as pruned, 0 as pruned_events,
                   0 as pruned_mark, 0 as billed_events, 0 as billed_mark, 0 as used_events, 0 as used_mark,
                   0 as found_events, 0 as found_mark
              from worker.usage_totals where period = p_period and shard between p_from and p_to
             group by shard
            union all
            select shard, 0, 0, 0, 0, sum(tokens), sum(events), sum(hashtextextended(tenant, v_seed) * tokens), 0, 0, 0,
                   0, 0, 0
              from worker.usage_pruned where period = p_period and shard between p_from and p_to
             group by shard
            union all
            select shard, 0, 0, 0, 0, 0, 0, 0, billed_events, billed_mark, used_events, used_mark, found_events,
                   found_mark
              from part) sides
     group by shard),
  judged as (
    select *, total_mark <> billed_mark or used_mark <> found_mark + pruned_mark as is_apart,
           total_events <> billed_events or used_events <> found_events + pruned_events as is_apart_in_number
      from place),
  rest as (
    select coalesce(sum(tenants), 0) as tenants, coalesce(sum(total), 0) as total, coalesce(sum(pruned), 0) as pruned,
           coalesce(sum(total_mark) <> sum(billed_mark) or sum(used_mark) <> sum(found_mark) + sum(pruned_mark), false)
             as is_off,
           coalesce(sum(total_events) <> sum(billed_events)
                    or sum(used_events) <> sum(found_events) + sum(pruned_events), false) as is_miscounted,
           min(shard) filter (where is_apart or is_apart_in_number) as off_from,
           max(shard) filter (where is_apart or is_apart_in_number) as off_to
      from judged)
  select jsonb_build_object('tenants', r.tenants, 'total', r.total::text, 'ledger', coalesce(sum(s.billed), 0)::text,
           'used', coalesce(sum(s.used), 0)::text, 'found', (coalesce(sum(s.found), 0) + r.pruned)::text,
           'pruned', r.pruned::text),
         r.is_off, r.is_miscounted, r.off_from, r.off_to, coalesce(bool_or(s.has_moved), false),
         coalesce(array_agg(b.batch_id) filter (
           where b.tokens <> s.used or b.applied <> s.used_events or b.seen <> b.applied + b.dup
              or (not v_is_pruned and (s.used <> s.found or s.used_events <> s.found_events))), '{}')
    from rest r
    left join batch s on true
    left join worker.usage_batches b on b.batch_id = s.batch_id
   group by r.tenants, r.total, r.pruned, r.is_off, r.is_miscounted, r.off_from, r.off_to;
end $$;
revoke all on function worker.usage_audit_sums from public, anon, authenticated;
grant execute on function worker.usage_audit_sums to service_role;

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
    v_tenants := worker.usage_audit_tenants(p_period, v_sums.off_from, v_sums.off_to, 'tokens');
  end if;
  if v_sums.is_miscounted then
    v_tenants := array(select unnest(v_tenants)
                       union
                       select unnest(worker.usage_audit_tenants(p_period, v_sums.off_from, v_sums.off_to, 'events')));
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
