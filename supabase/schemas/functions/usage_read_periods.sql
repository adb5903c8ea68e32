-- Months that are closing or closed, newest first. A month that is not listed is open.
--   p_before  only months before it; null = from the newest
--   p_limit   1 .. 120
--   returns  [{period, state, closingAt, graceUntil, checkedAt, heldBy, shardsPassed, shardsNoted, closedAt, closedBy,
--            reason, despite, sealedAt, tokens, events, tenants, checksum}]; amounts as text
create or replace function worker.usage_read_periods(p_before int default null, p_limit int default 24) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(jsonb_build_object('period', p.period, 'state', p.state, 'closingAt', p.closing_at,
           'graceUntil', p.grace_until, 'checkedAt', p.checked_at, 'heldBy', p.held_by, 'shardsPassed', b.passed,
           'shardsNoted', b.noted, 'closedAt', p.closed_at, 'closedBy', p.closed_by, 'reason', p.reason,
           'despite', p.despite, 'sealedAt', p.sealed_at, 'tokens', p.tokens::text, 'events', p.events::text,
           'tenants', p.tenants::text, 'checksum', p.checksum) order by p.period desc), '[]')
    from (select * from worker.usage_periods
           where p_before is null or period < p_before
           order by period desc
           limit least(greatest(p_limit, 1), 120)) p
   cross join lateral (
      select count(*) filter (where inc is not null) as noted, count(passed_at) as passed
        from worker.usage_period_shards where period = p.period) b
$$;
revoke all on function worker.usage_read_periods from public, anon, authenticated;
grant execute on function worker.usage_read_periods to service_role;
