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
