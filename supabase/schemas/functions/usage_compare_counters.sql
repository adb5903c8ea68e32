-- Part of usage_consolidate_shard: the counters of a shard that differ from what the ledger says happened in their
-- period. Legacy lanes are left out: no counter of the log counts them.
--   p_periods          that are compared; counters of others are ignored
--   p_tenant .. p_tokens  the counters, one array per column; tokens null = not a number
--   returns  redis: null when there is no number; used; total: tokens of usage_totals, null without a row
create or replace function worker.usage_compare_counters(p_shard int, p_periods int[], p_tenant text[], p_period int[],
  p_tokens numeric[])
returns table (tenant text, period int, redis numeric, has_counter boolean, used numeric, total numeric)
language plpgsql stable security invoker set search_path = '' set jit = off as $$
#variable_conflict use_column
begin
  return query
  with counters as (
    select c.tenant collate "C" as tenant, c.period, c.tokens
      from unnest(p_tenant, p_period, p_tokens) as c (tenant, period, tokens)
     where c.period = any (p_periods)),
  billed as (
    select t.tenant, t.period, t.tokens - t.legacy as tokens, t.tokens as total
      from worker.usage_totals t
     where t.shard = p_shard and t.period = any (p_periods)),
  -- Happened in one month and billed in another: few rows, with indexes of their own.
  moved as (
    select l.tenant, l.period, sum(l.tokens) as tokens
      from (select tenant, usage_period as period, tokens, period as billed_in, lane
              from worker.usage_ledger
             where usage_period <> period and usage_period = any (p_periods)
            union all
            select tenant, period, -tokens, period, lane
              from worker.usage_ledger
             where usage_period <> period and period = any (p_periods)) l
     where l.lane not like 'legacy%'
       and exists (select from worker.usage_totals t
                    where t.tenant = l.tenant and t.period = l.billed_in and t.shard = p_shard)
     group by l.tenant, l.period),
  happened as (
    select tenant, period, coalesce(b.tokens, 0) + coalesce(m.tokens, 0) as used, b.total
      from billed b full join moved m using (tenant, period))
  select tenant, period, c.tokens, c.tenant is not null, coalesce(h.used, 0), h.total
    from counters c full join happened h using (tenant, period)
   where coalesce(c.tokens, 0) <> coalesce(h.used, 0) or (c.tenant is not null and c.tokens is null);
end $$;
revoke all on function worker.usage_compare_counters from public, anon, authenticated;
grant execute on function worker.usage_compare_counters to service_role;
