-- One finished export.
--   returns  its manifest; null = there is none, or it is not finished
create or replace function worker.export_read(p_week date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select manifest from worker.exports where week = p_week
$$;
revoke all on function worker.export_read from public, anon, authenticated;
grant execute on function worker.export_read to service_role;
