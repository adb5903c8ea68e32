-- Remembers that a file is complete in the storage.
--   returns  {status: kept} | {status: stale}: somebody else went on with the export
create or replace function worker.export_keep_file(p_week date, p_attempt int, p_name text, p_path text, p_rows bigint,
  p_bytes bigint, p_content_bytes bigint, p_sha256 text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform from worker.exports where week = p_week and attempt = p_attempt and state = 'running' for update;
  if not found then
    return jsonb_build_object('status', 'stale');
  end if;
  insert into worker.export_files (week, name, path, rows, bytes, content_bytes, sha256)
  values (p_week, p_name, p_path, p_rows, p_bytes, p_content_bytes, p_sha256)
  on conflict on constraint export_files_pkey do update
    set path = excluded.path, rows = excluded.rows, bytes = excluded.bytes, content_bytes = excluded.content_bytes,
        sha256 = excluded.sha256, finished_at = now();
  return jsonb_build_object('status', 'kept');
end $$;
revoke all on function worker.export_keep_file from public, anon, authenticated;
grant execute on function worker.export_keep_file to service_role;
