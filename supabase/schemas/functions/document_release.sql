-- Gives a document back, because the attempt was interrupted; no failure is counted.
--   returns  {status: ok | lost | cancelled | deleted}
create or replace function worker.document_release(p_id uuid, p_item uuid, p_fence bigint) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
begin
  if v_status = 'ok' then
    update worker.documents set state = 'queued', stage = null, progress = '{}', claim_item = null, claim_fence = null,
      lease_until = null, updated_at = now()
     where id = p_id;
  end if;
  return jsonb_build_object('status', v_status);
end $$;
revoke all on function worker.document_release from public, anon, authenticated;
grant execute on function worker.document_release to service_role;
