-- What was booked on a day, and what differed.
--   returns  {tokens, events, hours: [{hour, tokens}], reasons: [{reason, tokens, events}], types: [{type, tokens,
--            events}], tenants: [{tenant, tokens}], drifts: [{cause, found, repaired, tokens}], quarantined, gaps}
--            amounts as text; the ten largest tenants; gaps = tokens that are known to be missing now
create or replace function worker.report_read_usage(p_day date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with booked as materialized (
    select extract(hour from booked_at at time zone 'UTC')::int as hour, tenant, token_type, reason, tokens, events
      from worker.usage_ledger
     where booked_at >= p_day::timestamp at time zone 'UTC' and booked_at < (p_day + 1)::timestamp at time zone 'UTC')
  select jsonb_build_object(
    'tokens', (select coalesce(sum(tokens), 0)::text from booked),
    'events', (select coalesce(sum(events), 0)::text from booked),
    'hours', coalesce((
      select jsonb_agg(jsonb_build_object('hour', hour, 'tokens', tokens::text) order by hour)
        from (select hour, sum(tokens) as tokens from booked group by hour) as h), '[]'),
    'reasons', coalesce((
      select jsonb_agg(jsonb_build_object('reason', reason, 'tokens', tokens::text, 'events', events::text)
               order by reason)
        from (select reason, sum(tokens) as tokens, sum(events) as events from booked group by reason) as r), '[]'),
    'types', coalesce((
      select jsonb_agg(jsonb_build_object('type', type, 'tokens', tokens::text, 'events', events::text) order by type)
        from (select coalesce(token_type, 'unknown') as type, sum(tokens) as tokens, sum(events) as events
                from booked group by 1) as t), '[]'),
    'tenants', coalesce((
      select jsonb_agg(jsonb_build_object('tenant', tenant, 'tokens', tokens::text) order by tokens desc, tenant)
        from (select tenant, sum(tokens) as tokens from booked group by tenant
               order by tokens desc, tenant limit 10) as t), '[]'),
    'drifts', coalesce((
      select jsonb_agg(jsonb_build_object('cause', cause, 'found', found, 'repaired', repaired, 'tokens', tokens::text)
               order by cause)
        from (select cause, count(*) as found, count(*) filter (where state = 'repaired') as repaired,
                     sum(abs(drift)) as tokens
                from worker.usage_drifts
               where detected_at >= p_day::timestamp at time zone 'UTC'
                 and detected_at < (p_day + 1)::timestamp at time zone 'UTC'
               group by cause) as d), '[]'),
    'quarantined', (select count(*) from worker.usage_quarantine where resolved_at is null),
    'gaps', (select coalesce(sum(tokens_lost - recovered), 0)::text from worker.usage_gaps
              where tokens_lost <> recovered))
$$;
revoke all on function worker.report_read_usage from public, anon, authenticated;
grant execute on function worker.report_read_usage to service_role;
