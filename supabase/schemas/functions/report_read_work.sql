-- The work queue on a day.
--   returns  {ended: [{kind, succeeded, dead, cancelled, p50Ms, p95Ms}], codes: [{code, dead}], now: as work_accounting}
--            durations from acceptance to success
create or replace function worker.report_read_work(p_day date) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
begin
  return (
    with ended as materialized (
      select kind, state, code, extract(epoch from finished_at - created_at) * 1000 as ms
        from worker.work_items
       where finished_at >= p_day::timestamp at time zone 'UTC'
         and finished_at < (p_day + 1)::timestamp at time zone 'UTC')
    select jsonb_build_object(
      'ended', coalesce((
        select jsonb_agg(jsonb_build_object('kind', kind, 'succeeded', succeeded, 'dead', dead, 'cancelled', cancelled,
                 'p50Ms', p50_ms, 'p95Ms', p95_ms) order by kind)
          from (select kind, count(*) filter (where state = 'succeeded') as succeeded,
                       count(*) filter (where state = 'dead') as dead,
                       count(*) filter (where state = 'cancelled') as cancelled,
                       round(percentile_cont(0.5) within group (order by ms) filter (where state = 'succeeded')) as p50_ms,
                       round(percentile_cont(0.95) within group (order by ms) filter (where state = 'succeeded')) as p95_ms
                  from ended group by kind) as k), '[]'),
      'codes', coalesce((
        select jsonb_agg(jsonb_build_object('code', code, 'dead', dead) order by dead desc, code)
          from (select code, count(*) as dead from ended where state = 'dead' group by code
                 order by 2 desc, 1 limit 10) as c), '[]'),
      'now', worker.work_accounting()));
end $$;
revoke all on function worker.report_read_work from public, anon, authenticated;
grant execute on function worker.report_read_work to service_role;
