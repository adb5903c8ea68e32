-- Ends an export whose manifest is in the storage.
--   returns  {status: finished} | {status: stale}: somebody else went on with it, or it is finished
create or replace function worker.export_finish(p_week date, p_attempt int, p_manifest jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.exports set state = 'finished', finished_at = now(), manifest = p_manifest
   where week = p_week and attempt = p_attempt and state = 'running';
  return jsonb_build_object('status', case when found then 'finished' else 'stale' end);
end $$;
revoke all on function worker.export_finish from public, anon, authenticated;
grant execute on function worker.export_finish to service_role;
