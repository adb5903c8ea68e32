-- Makes a document of a stored object and asks for it to be processed. The same object is the same document: asking
-- again, also for new content under the same path, asks to process it again. The caller enqueues the work afterwards; if
-- it cannot, document_sweep finds the row.
--   p_id        null = a new one
--   p_path      begins with '<workspace>/'
--   p_audit     {actor, reason, requestId} of the audit log
--   returns  {status: queued, id, isNew} | {status: already, id, isNew: false} it waits or is worked on already |
--            {status: conflict} the id has another object, or the object another id | {status: gone} it was deleted
--   raises   DO001 document_argument_invalid (permanent)
create or replace function worker.document_register(p_id uuid, p_workspace uuid, p_name text, p_mime text,
  p_storage text, p_container text, p_path text, p_priority text, p_audit jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_id uuid := coalesce(p_id, gen_random_uuid());
  d worker.documents;
begin
  if p_workspace is null or not starts_with(coalesce(p_path, ''), p_workspace || '/') then
    raise exception 'document_argument_invalid: the path begins with the workspace' using errcode = 'DO001';
  end if;
  insert into worker.documents (id, workspace_id, name, mime, storage, container, path, priority, state, requested_at)
  values (v_id, p_workspace, p_name, p_mime, p_storage, p_container, p_path, p_priority, 'queued', now())
  on conflict do nothing;
  if found then
    perform worker.document_audit(p_audit, 'document_register', v_id, jsonb_build_object('workspaceId', p_workspace));
    return jsonb_build_object('status', 'queued', 'id', v_id, 'isNew', true);
  end if;
  select * into d from worker.documents
   where workspace_id = p_workspace and storage = p_storage and container = p_container and path = p_path
     and state <> 'deleted' for update;
  if not found then
    select * into d from worker.documents where id = v_id;
    return jsonb_build_object('status',
      case when d.workspace_id = p_workspace and d.state = 'deleted' then 'gone' else 'conflict' end);
  end if;
  if d.id <> coalesce(p_id, d.id) then
    return jsonb_build_object('status', 'conflict');
  end if;
  if d.state in ('queued', 'processing', 'retrying') then
    return jsonb_build_object('status', 'already', 'id', d.id, 'isNew', false);
  end if;
  update worker.documents set name = p_name, mime = p_mime, priority = p_priority, state = 'queued', absences = 0,
    failures = 0, requested_at = now(), updated_at = now()
   where id = d.id;
  perform worker.document_audit(p_audit, 'document_register', d.id,
    jsonb_build_object('workspaceId', p_workspace, 'before', d.state, 'after', 'queued'));
  return jsonb_build_object('status', 'queued', 'id', d.id, 'isNew', false);
end $$;
revoke all on function worker.document_register from public, anon, authenticated;
grant execute on function worker.document_register to service_role;
