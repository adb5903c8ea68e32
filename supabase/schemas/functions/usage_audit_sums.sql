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
