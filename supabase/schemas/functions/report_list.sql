-- Reports, newest first.
--   p_before  only older days; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{day, made, mail, createdAt, updatedAt, mailedAt}], next}; next = p_before of the following page or
--             null
create or replace function worker.report_list(p_before date default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select day, made, mail, created_at, updated_at, mailed_at from worker.reports
     where p_before is null or day < p_before
     order by day desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('day', day, 'made', made, 'mail', mail, 'createdAt', created_at,
        'updatedAt', updated_at, 'mailedAt', mailed_at) order by day desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(day) end)
    from page
$$;
revoke all on function worker.report_list from public, anon, authenticated;
grant execute on function worker.report_list to service_role;
