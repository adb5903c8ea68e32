-- A work item ended without success, and its document follows: unless it ended before, or another item has it.
--   p_ending  dead | cancelled
--   p_code    reason of the item; kept unless the attempt itself left a better one
--   returns  {status: settled, state} | {status: none} nothing to settle
create or replace function worker.document_settle(p_id uuid, p_workspace uuid, p_item uuid, p_ending text, p_code text,
  p_text text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.documents;
begin
  update worker.documents
     set state = case p_ending when 'cancelled' then 'cancelled' else 'failed' end, stage = null, progress = '{}',
         claim_item = null, claim_fence = null, lease_until = null, finished_at = now(), updated_at = now(),
         error_code = case when state = 'retrying' and error_code is not null then error_code else left(p_code, 100) end,
         error_text = case when state = 'retrying' and error_code is not null then error_text else left(p_text, 500) end
   where id = p_id and workspace_id = p_workspace and state in ('queued', 'processing', 'retrying')
     and coalesce(claim_item, work_item, p_item) = p_item
  returning * into d;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  return jsonb_build_object('status', 'settled', 'state', d.state);
end $$;
revoke all on function worker.document_settle from public, anon, authenticated;
grant execute on function worker.document_settle to service_role;
