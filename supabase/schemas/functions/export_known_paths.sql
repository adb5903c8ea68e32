-- Which of some blobs an export knows. The others were left behind by an attempt that broke off.
--   returns  the paths that belong to a file
create or replace function worker.export_known_paths(p_paths text[]) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(path), '[]') from worker.export_files where path = any (p_paths)
$$;
revoke all on function worker.export_known_paths from public, anon, authenticated;
grant execute on function worker.export_known_paths to service_role;
