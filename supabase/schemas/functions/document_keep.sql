-- Ends an attempt that found content and pipeline unchanged: the active version stays.
--   returns  {status: ok, state} | {status: lost | cancelled | deleted}
create or replace function worker.document_keep(p_id uuid, p_item uuid, p_fence bigint) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
  d worker.documents;
begin
  if v_status <> 'ok' then
    return jsonb_build_object('status', v_status);
  end if;
  update worker.documents
     set state = case when warnings = '[]' then 'ready' else 'ready_partial' end, stage = null, progress = '{}',
         claim_item = null, claim_fence = null, lease_until = null, failures = 0, absences = 0, error_code = null,
         error_text = null, finished_at = now(), updated_at = now()
   where id = p_id
  returning * into d;
  delete from worker.document_chunks where document_id = p_id and version <> d.active_version;
  return jsonb_build_object('status', v_status, 'state', d.state);
end $$;
revoke all on function worker.document_keep from public, anon, authenticated;
grant execute on function worker.document_keep to service_role;
