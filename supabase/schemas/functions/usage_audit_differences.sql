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
