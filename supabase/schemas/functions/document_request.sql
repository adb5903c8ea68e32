-- Asks for a document to be processed. The caller enqueues the work afterwards; if it cannot, document_sweep finds it.
--   p_force   also when content and pipeline are the same as those of its active version
--   p_audit   {actor, reason, requestId} of the audit log
--   returns  {status: queued | already, id, priority} already = it waits or is worked on; nothing changes |
--            {status: processing} forced, but somebody works on it: cancel that first | {status: gone} it was deleted |
--            {status: mismatch} it is another workspace's | {status: unknown}
create or replace function worker.document_request(p_id uuid, p_workspace uuid, p_force boolean,
  p_audit jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.documents;
  v_status text;
begin
  select * into d from worker.documents where id = p_id for update;
  v_status := case
    when not found then 'unknown'
    when d.workspace_id is distinct from p_workspace then 'mismatch'
    when d.state = 'deleted' then 'gone'
    when d.state = 'processing' and p_force then 'processing'
    when d.state in ('queued', 'processing', 'retrying') then 'already' else 'queued' end;
  if v_status = 'queued' or (v_status = 'already' and p_force) then
    update worker.documents set state = case when v_status = 'queued' then 'queued' else state end, absences = 0,
      failures = 0, is_forced = is_forced or p_force, requested_at = now(), updated_at = now()
     where id = p_id;
    perform worker.document_audit(p_audit, case when p_force then 'document_reprocess' else 'document_process' end, p_id,
      jsonb_build_object('workspaceId', p_workspace, 'before', d.state));
  end if;
  return jsonb_build_object('status', v_status)
    || case when v_status in ('queued', 'already') then jsonb_build_object('id', p_id, 'priority', d.priority)
       else '{}' end;
end $$;
revoke all on function worker.document_request from public, anon, authenticated;
grant execute on function worker.document_request to service_role;
