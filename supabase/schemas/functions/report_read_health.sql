-- How the system did on a day, as health_check saw it: once a minute, where it could.
--   returns  {checks, available, components: {name: {available, degraded, unavailable}}, hours: [{hour, checks,
--            available}]}; a minute without a check is in none of them
create or replace function worker.report_read_health(p_day date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with checks as (
    select extract(hour from due_at at time zone 'UTC')::int as hour, report -> 'health' as health
      from worker.job_runs
     where job_id = 'health_check' and jsonb_typeof(report -> 'health') = 'object'
       and due_at >= p_day::timestamp at time zone 'UTC' and due_at < (p_day + 1)::timestamp at time zone 'UTC'
  ), seen as (
    select c.hour, s.key as name, s.value as status
      from checks c, jsonb_each_text(c.health) as s
     where s.value in ('available', 'degraded', 'unavailable')
  ), judged as (
    select hour, not health @? '$.* ? (@ == "unavailable")' as is_available from checks)
  select jsonb_build_object(
    'checks', (select count(*) from judged),
    'available', (select count(*) from judged where is_available),
    'components', coalesce((
      select jsonb_object_agg(name, jsonb_build_object('available', available, 'degraded', degraded,
               'unavailable', unavailable))
        from (select name, count(*) filter (where status = 'available') as available,
                     count(*) filter (where status = 'degraded') as degraded,
                     count(*) filter (where status = 'unavailable') as unavailable
                from seen group by name) as c), '{}'),
    'hours', coalesce((
      select jsonb_agg(jsonb_build_object('hour', hour, 'checks', checks, 'available', available) order by hour)
        from (select hour, count(*) as checks, count(*) filter (where is_available) as available
                from judged group by hour) as h), '[]'))
$$;
revoke all on function worker.report_read_health from public, anon, authenticated;
grant execute on function worker.report_read_health to service_role;
