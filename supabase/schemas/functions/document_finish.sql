-- Serves the version of the current claim from now on, and removes every other one, in this transaction.
--   p_expect  how many chunks were staged
--   p_facts   {sha256, pipelineKey, type, language, pages, bytes, warnings}
--   returns  {status: ok, state} ready, or ready_partial when there are warnings | {status: lost | cancelled | deleted}
--   raises   DO003 document_chunks_incomplete (permanent): not as many chunks as expected, or none
create or replace function worker.document_finish(p_id uuid, p_item uuid, p_fence bigint, p_expect int, p_facts jsonb)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
  v_warnings constant jsonb := coalesce(p_facts->'warnings', '[]');
  v_count int;
  d worker.documents;
begin
  if v_status <> 'ok' then
    return jsonb_build_object('status', v_status);
  end if;
  select count(*) into v_count from worker.document_chunks c
    join worker.documents x on x.id = c.document_id and x.claims = c.version
   where c.document_id = p_id;
  if v_count <> p_expect or v_count = 0 then
    raise exception 'document_chunks_incomplete' using errcode = 'DO003',
      detail = format('%s chunks are staged, %s are expected', v_count, p_expect);
  end if;
  update worker.documents
     set state = case when v_warnings = '[]' then 'ready' else 'ready_partial' end, active_version = claims,
         chunk_count = v_count, content_sha256 = p_facts->>'sha256', pipeline_key = p_facts->>'pipelineKey',
         type = p_facts->>'type', language = p_facts->>'language', page_count = (p_facts->>'pages')::int,
         bytes = (p_facts->>'bytes')::bigint, warnings = v_warnings, stage = null, progress = '{}', claim_item = null,
         claim_fence = null, lease_until = null, failures = 0, absences = 0, is_forced = false, error_code = null,
         error_text = null, finished_at = now(), updated_at = now()
   where id = p_id
  returning * into d;
  delete from worker.document_chunks where document_id = p_id and version <> d.active_version;
  return jsonb_build_object('status', v_status, 'state', d.state);
end $$;
revoke all on function worker.document_finish from public, anon, authenticated;
grant execute on function worker.document_finish to service_role;
