-- What the ledger holds for a tenant and month; zeros when it knows neither.
--   returns  {tenant, period, tokens, used, legacy, events, late, adjusted, quarantined, updatedAt,
--            breakdown: [{type, model, tokens, events}]}; amounts and events as text
--            tokens = billed in this month, used = happened in it, legacy = part of used that came through a legacy
--            lane, which no counter of the log counts, late = part of tokens that happened in another,
--            adjusted = part of tokens that are corrections, quarantined = entries that wait for a decision
create or replace function worker.usage_read_total(p_tenant text, p_period int) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with billed as (
    select coalesce(token_type, 'unknown') as type, coalesce(model, '') as model, sum(tokens) as tokens,
           sum(events) as events, coalesce(sum(tokens) filter (where usage_period <> period), 0) as late,
           coalesce(sum(tokens) filter (where lane like 'legacy%' and usage_period = period), 0) as legacy,
           coalesce(sum(tokens) filter (where reason like 'adjust:%'), 0) as adjusted
      from worker.usage_ledger
     where period = p_period and tenant = p_tenant
     group by 1, 2),
  moved as (
    select coalesce(sum(tokens), 0) as tokens, coalesce(sum(tokens) filter (where lane like 'legacy%'), 0) as legacy
      from worker.usage_ledger
     where usage_period = p_period and usage_period <> period and tenant = p_tenant)
  select jsonb_build_object(
      'tenant', p_tenant, 'period', p_period,
      'tokens', coalesce(t.tokens, 0)::text, 'events', coalesce(t.events, 0)::text,
      'used', (coalesce(t.tokens, 0) - b.late + moved.tokens)::text, 'legacy', (b.legacy + moved.legacy)::text,
      'late', b.late::text, 'adjusted', b.adjusted::text, 'updatedAt', t.updated_at, 'breakdown', b.breakdown,
      'quarantined', (select count(*) from worker.usage_quarantine
                       where tenant = p_tenant and period = p_period and resolved_at is null))
    from moved
   cross join (select coalesce(sum(late), 0) as late, coalesce(sum(legacy), 0) as legacy,
                      coalesce(sum(adjusted), 0) as adjusted,
                      coalesce(jsonb_agg(jsonb_build_object('type', type, 'model', model, 'tokens', tokens::text,
                        'events', events::text) order by type, model), '[]') as breakdown
                 from billed) b
    left join worker.usage_totals t on t.tenant = p_tenant and t.period = p_period
$$;
revoke all on function worker.usage_read_total from public, anon, authenticated;
grant execute on function worker.usage_read_total to service_role;
