-- Remembers the work item that was made for a document, unless one has claimed it since.
create or replace function worker.document_note_item(p_id uuid, p_workspace uuid, p_item uuid) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.documents set work_item = p_item
   where id = p_id and workspace_id = p_workspace and state in ('queued', 'retrying') $$;
revoke all on function worker.document_note_item from public, anon, authenticated;
grant execute on function worker.document_note_item to service_role;
