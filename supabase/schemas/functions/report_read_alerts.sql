-- The incidents of a day.
--   returns  {raised, resolved, open, rows: [{key, level, title, firstSeen, resolvedAt, count}]}; the thirty worst that
--            stood at some time of the day
create or replace function worker.report_read_alerts(p_day date) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with bounds as (
    select p_day::timestamp at time zone 'UTC' as starts, (p_day + 1)::timestamp at time zone 'UTC' as ends
  ), stood as materialized (
    select a.*, b.starts, b.ends from worker.alerts a, bounds b
     where a.first_seen < b.ends and (a.resolved_at is null or a.resolved_at >= b.starts))
  select jsonb_build_object(
    'raised', (select count(*) from stood where first_seen >= starts),
    'resolved', (select count(*) from stood where resolved_at < ends),
    'open', (select count(*) from stood where resolved_at is null or resolved_at >= ends),
    'rows', coalesce((
      select jsonb_agg(jsonb_build_object('key', key, 'level', level, 'title', title, 'firstSeen', first_seen,
               'resolvedAt', resolved_at, 'count', count::text) order by urgency, first_seen)
        from (select *, array_position(array['critical', 'warning', 'info'], level) as urgency from stood
               order by urgency, first_seen limit 30) as worst), '[]'))
$$;
revoke all on function worker.report_read_alerts from public, anon, authenticated;
grant execute on function worker.report_read_alerts to service_role;
