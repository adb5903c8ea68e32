-- Part of usage_consolidate_shard: the counters of a shard that differ from what the ledger says happened in their
-- period.
--   p_periods             that are compared; counters of others are ignored
--   p_tenant .. p_tokens  the counters, one array per column; tokens null = not a number
--   returns  redis: null when there is no number; used, total: see usage_used_tokens
create or replace function worker.usage_compare_counters(p_shard int, p_periods int[], p_tenant text[], p_period int[],
  p_tokens numeric[])
returns table (tenant text, period int, redis numeric, has_counter boolean, used numeric, total numeric)
language plpgsql stable security invoker set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  with counters as (
    select c.tenant collate "C" as tenant, c.period, c.tokens
      from unnest(p_tenant, p_period, p_tokens) as c (tenant, period, tokens)
     where c.period = any (p_periods)),
  happened as (
    select u.tenant collate "C" as tenant, u.period, u.used, u.total from worker.usage_used_tokens(p_shard, p_periods) u)
  select tenant, period, c.tokens, c.tenant is not null, coalesce(h.used, 0), h.total
    from counters c full join happened h using (tenant, period)
   where coalesce(c.tokens, 0) <> coalesce(h.used, 0) or (c.tenant is not null and c.tokens is null);
end $$;
revoke all on function worker.usage_compare_counters from public, anon, authenticated;
grant execute on function worker.usage_compare_counters to service_role;
