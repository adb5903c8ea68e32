-- Stops the processing of a document; who works on it can write no more. What is served stays. The caller cancels the
-- work item too.
--   p_audit   {actor, reason, requestId} of the audit log
--   returns  {status: cancelled, workItem} | {status: over, state} nothing to cancel | {status: gone | mismatch | unknown}
create or replace function worker.document_cancel(p_id uuid, p_workspace uuid, p_audit jsonb) returns jsonb
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
    when d.state in ('uploaded', 'queued', 'processing', 'retrying') then 'cancelled' else 'over' end;
  if v_status = 'cancelled' then
    update worker.documents set state = 'cancelled', stage = null, progress = '{}', claim_item = null,
      claim_fence = null, lease_until = null, finished_at = now(), updated_at = now()
     where id = p_id;
    perform worker.document_audit(p_audit, 'document_cancel', p_id,
      jsonb_build_object('workspaceId', p_workspace, 'before', d.state, 'after', 'cancelled'));
  end if;
  return jsonb_build_object('status', v_status)
    || case v_status when 'cancelled' then jsonb_build_object('workItem', d.work_item)
       when 'over' then jsonb_build_object('state', d.state) else '{}' end;
end $$;
revoke all on function worker.document_cancel from public, anon, authenticated;
grant execute on function worker.document_cancel to service_role;
