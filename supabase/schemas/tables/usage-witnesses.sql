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
