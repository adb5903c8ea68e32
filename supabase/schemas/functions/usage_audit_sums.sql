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
