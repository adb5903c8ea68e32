-- One document.
--   returns  {status: found, document: {…}} | {status: gone | mismatch | unknown}
create or replace function worker.document_read(p_id uuid, p_workspace uuid) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
declare
  d worker.documents;
begin
  select * into d from worker.documents where id = p_id;
  return case
    when not found then jsonb_build_object('status', 'unknown')
    when d.workspace_id is distinct from p_workspace then jsonb_build_object('status', 'mismatch')
    when d.state = 'deleted' then jsonb_build_object('status', 'gone')
    else jsonb_build_object('status', 'found', 'document', worker.document_row(d)) end;
end $$;
revoke all on function worker.document_read from public, anon, authenticated;
grant execute on function worker.document_read to service_role;
