-- Part of usage_compare_counters and usage_counter_digest: what the tenants of a shard used in some periods, as far as the
-- counters of the log know. Legacy lanes are left out: no counter of the log counts them.
--   returns  used = happened in the period; total = tokens of usage_totals, null without a row
create or replace function worker.usage_used_tokens(p_shard int, p_periods int[])
returns table (tenant text, period int, used numeric, total numeric)
language plpgsql stable security invoker
set search_path = '' set enable_seqscan = off as $$ -- the planner takes moved uses for common
#variable_conflict use_column
begin
  if not worker.usage_has_moved(p_periods) then
    return query
    select t.tenant, t.period, t.tokens - t.legacy, t.tokens
      from worker.usage_totals t
     where t.shard = p_shard and t.period = any (p_periods);
    return;
  end if;
  return query
  with billed as (
    select t.tenant, t.period, t.tokens - t.legacy as tokens, t.tokens as total
      from worker.usage_totals t
     where t.shard = p_shard and t.period = any (p_periods)),
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
     group by l.tenant, l.period)
  select tenant, period, coalesce(b.tokens, 0) + coalesce(m.tokens, 0), b.total
    from billed b full join moved m using (tenant, period);
end $$;
revoke all on function worker.usage_used_tokens from public, anon, authenticated;
grant execute on function worker.usage_used_tokens to service_role;
