-- A page of the runs of jobs that began in a week, or would have.
--   p_week   its first day
--   p_after  [instant, id] of the last row of the page before; null = from the first
--   returns  {rows: [[id, job_id, slot_at, trigger, status, reason, started_at, finished_at, duration_ms, late_ms,
--            attempt, error_code]], next}
create or replace function worker.export_read_runs(p_week date, p_after jsonb, p_limit int) returns jsonb
language plpgsql stable security invoker set search_path = '' set timezone = 'UTC' as $$
begin
  return (
    with page as (
      select * from worker.job_runs
       where due_at >= p_week::timestamp at time zone 'UTC' and due_at < (p_week + 7)::timestamp at time zone 'UTC'
         and (p_after is null or (due_at, id) > ((p_after ->> 0)::timestamptz, (p_after ->> 1)::uuid))
       order by due_at, id limit p_limit)
    select jsonb_build_object(
        'rows', coalesce(jsonb_agg(jsonb_build_array(id, job_id, slot_at, trigger, status, reason, started_at,
          finished_at, duration_ms, late_ms, attempt, error_code) order by due_at, id), '[]'),
        'next', case when count(*) = p_limit
                     then (array_agg(jsonb_build_array(due_at, id) order by due_at desc, id desc))[1] end)
      from page);
end $$;
revoke all on function worker.export_read_runs from public, anon, authenticated;
grant execute on function worker.export_read_runs to service_role;
