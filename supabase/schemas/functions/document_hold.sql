-- Locks a document for a write in the name of a work item and says whether the item may still write. Every writer calls
-- it first, in the transaction of its write: a worker that was overtaken, cancelled or whose document was deleted
-- changes nothing.
--   returns  ok | lost | cancelled | deleted
create or replace function worker.document_hold(p_id uuid, p_item uuid, p_fence bigint) returns text
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.documents;
begin
  select * into d from worker.documents where id = p_id for update;
  return case
    when not found or d.state = 'deleted' then 'deleted'
    when d.claim_item = p_item and d.claim_fence = p_fence then 'ok'
    when d.state = 'cancelled' then 'cancelled' else 'lost' end;
end $$;
revoke all on function worker.document_hold from public, anon, authenticated;
grant execute on function worker.document_hold to service_role;
