-- Exports that may go, with all their files, the oldest first. Their blobs go first, then their rows.
--   returns  [{week, paths}]
create or replace function worker.export_expired(p_before date, p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('week', week, 'paths', coalesce((
      select jsonb_agg(path order by path) from worker.export_files f where f.week = e.week), '[]')) order by week), '[]')
    from (select week from worker.exports where week < p_before order by week limit p_limit) as e
$$;
revoke all on function worker.export_expired from public, anon, authenticated;
grant execute on function worker.export_expired to service_role;
