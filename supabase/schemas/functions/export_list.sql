-- Exports, newest first.
--   p_before  only older weeks; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{week, format, state, files, rows, bytes, startedAt, finishedAt}], next}; numbers of rows and
--             bytes as text, next = p_before of the following page or null
create or replace function worker.export_list(p_before date default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select e.*, f.files, f.rows, f.bytes
      from worker.exports e
      cross join lateral (
        select count(*) as files, coalesce(sum(rows), 0) as rows, coalesce(sum(bytes), 0) as bytes
          from worker.export_files where week = e.week) as f
     where p_before is null or e.week < p_before
     order by e.week desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('week', week, 'format', format, 'state', state, 'files', files,
        'rows', rows::text, 'bytes', bytes::text, 'startedAt', started_at, 'finishedAt', finished_at)
        order by week desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(week) end)
    from page
$$;
revoke all on function worker.export_list from public, anon, authenticated;
grant execute on function worker.export_list to service_role;
