-- Ends an attempt that failed. What is served stays as it was.
--   p_state     retrying (its work item comes again) | failed | unsupported | missing
--   p_is_absent the stored object was not there
--   p_text      what its owner may read; cut at 500 characters
--   returns  {status: ok | lost | cancelled | deleted}
create or replace function worker.document_fail(p_id uuid, p_item uuid, p_fence bigint, p_state text, p_code text,
  p_text text, p_is_absent boolean) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
begin
  if p_state is null or p_state not in ('retrying', 'failed', 'unsupported', 'missing') then
    raise exception 'document_argument_invalid: no state of a failure' using errcode = 'DO001';
  end if;
  if v_status = 'ok' then
    update worker.documents
       set state = p_state, stage = null, progress = '{}', claim_item = null, claim_fence = null, lease_until = null,
           failures = failures + 1, absences = case when p_is_absent then absences + 1 else 0 end, error_code = p_code,
           error_text = left(p_text, 500), finished_at = now(), updated_at = now()
     where id = p_id;
  end if;
  return jsonb_build_object('status', v_status);
end $$;
revoke all on function worker.document_fail from public, anon, authenticated;
grant execute on function worker.document_fail to service_role;
