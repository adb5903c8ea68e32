-- Removes a document and its chunks; a row without name and path stays until document_prune. Idempotent.
--   p_audit   {actor, reason, requestId} of the audit log
--   returns  {status: deleted, workItem} | {status: gone} it was deleted before | {status: mismatch | unknown}
create or replace function worker.document_delete(p_id uuid, p_workspace uuid, p_audit jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.documents;
  v_status text;
begin
  select * into d from worker.documents where id = p_id for update;
  v_status := case
    when not found then 'unknown'
    when d.workspace_id is distinct from p_workspace then 'mismatch'
    when d.state = 'deleted' then 'gone' else 'deleted' end;
  if v_status <> 'deleted' then
    return jsonb_build_object('status', v_status);
  end if;
  update worker.documents
     set state = 'deleted', name = '', path = '', mime = null, stage = null, progress = '{}', claim_item = null,
         claim_fence = null, lease_until = null, active_version = null, chunk_count = null, content_sha256 = null,
         warnings = '[]', error_code = null, error_text = null, updated_at = now()
   where id = p_id;
  delete from worker.document_chunks where document_id = p_id;
  perform worker.document_audit(p_audit, 'document_delete', p_id,
    jsonb_build_object('workspaceId', p_workspace, 'before', d.state, 'chunks', d.chunk_count));
  return jsonb_build_object('status', v_status, 'workItem', d.work_item);
end $$;
revoke all on function worker.document_delete from public, anon, authenticated;
grant execute on function worker.document_delete to service_role;
