-- Why: documents change only by these functions: a worker writes under the fence of its claim, and a new version is
--   served only when it is complete.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Notes a change of a document in the audit log, in the transaction of the change.
--   p_audit  {actor, reason, requestId}; null = nobody asked for it through the API, and nothing is noted
create or replace function worker.document_audit(p_audit jsonb, p_action text, p_id uuid, p_details jsonb) returns void
language sql volatile security invoker set search_path = '' as $$
  select worker.audit_write(p_audit->>'actor', p_action, 'document:' || p_id, p_audit->>'reason', p_details,
    p_audit->>'requestId')
   where p_audit is not null $$;
revoke all on function worker.document_audit from public, anon, authenticated;
grant execute on function worker.document_audit to service_role;

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

-- Remembers the work item that was made for a document, unless one has claimed it since.
create or replace function worker.document_note_item(p_id uuid, p_workspace uuid, p_item uuid) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.documents set work_item = p_item
   where id = p_id and workspace_id = p_workspace and state in ('queued', 'retrying') $$;
revoke all on function worker.document_note_item from public, anon, authenticated;
grant execute on function worker.document_note_item to service_role;

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

-- Starts an attempt. One worker wins; a claim whose lease is over, or of the same work item with a lower fence, is taken
-- over, and its worker can write no more. Repeating a claim changes nothing but its lease.
--   p_item, p_fence   the work item and its fence: the name under which everything is written
--   p_lease_seconds   1 .. 3600; touching and staging renew it
--   returns  {status: claimed, version, storage, container, path, name, mime, sha256, pipelineKey, isForced, absences,
--            errorCode, hasActive}; version = what document_put_chunks stages |
--            {status: busy} another one works on it | {status: stale} a later claim of the same item exists |
--            {status: cancelled} | {status: gone} it was deleted | {status: mismatch} it is another workspace's: nothing
--            was touched | {status: unknown}
create or replace function worker.document_claim(p_id uuid, p_workspace uuid, p_item uuid, p_fence bigint,
  p_lease_seconds int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.documents;
  v_lease constant timestamptz := clock_timestamp() + make_interval(secs => least(greatest(p_lease_seconds, 1), 3600));
  v_status text;
begin
  select * into d from worker.documents where id = p_id for update;
  v_status := case
    when not found then 'unknown'
    when d.workspace_id is distinct from p_workspace then 'mismatch'
    when d.state = 'deleted' then 'gone'
    when d.state = 'cancelled' then 'cancelled'
    when d.claim_item = p_item and d.claim_fence > p_fence then 'stale'
    when d.claim_item <> p_item and d.lease_until > clock_timestamp() then 'busy' else 'claimed' end;
  if v_status <> 'claimed' then
    return jsonb_build_object('status', v_status);
  end if;
  update worker.documents
     set state = 'processing', stage = case when claim_item = p_item and claim_fence = p_fence then stage else 'fetch' end,
         claims = claims + case when claim_item = p_item and claim_fence = p_fence then 0 else 1 end,
         progress = '{}', work_item = p_item, claim_item = p_item, claim_fence = p_fence, lease_until = v_lease,
         started_at = now(), updated_at = now()
   where id = p_id
  returning * into d;
  -- Of the attempts that died, the last one is kept: its vectors may be taken over.
  delete from worker.document_chunks c
   where c.document_id = p_id and c.version not in (coalesce(d.active_version, 0), d.claims, d.claims - 1);
  return jsonb_build_object('status', v_status, 'version', d.claims, 'storage', d.storage, 'container', d.container,
    'path', d.path, 'name', d.name, 'mime', d.mime, 'sha256', d.content_sha256, 'pipelineKey', d.pipeline_key,
    'isForced', d.is_forced, 'absences', d.absences, 'errorCode', d.error_code, 'hasActive', d.active_version is not null);
end $$;
revoke all on function worker.document_claim from public, anon, authenticated;
grant execute on function worker.document_claim to service_role;

-- Says that the work goes on, and where it is. Renews the lease.
--   returns  {status: ok | lost | cancelled | deleted}; anything but ok: stop and write nothing
create or replace function worker.document_touch(p_id uuid, p_item uuid, p_fence bigint, p_stage text,
  p_progress jsonb, p_lease_seconds int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
begin
  if v_status = 'ok' then
    update worker.documents set stage = p_stage, progress = coalesce(p_progress, '{}'), updated_at = now(),
      lease_until = clock_timestamp() + make_interval(secs => least(greatest(p_lease_seconds, 1), 3600))
     where id = p_id;
  end if;
  return jsonb_build_object('status', v_status);
end $$;
revoke all on function worker.document_touch from public, anon, authenticated;
grant execute on function worker.document_touch to service_role;

-- Hashes of the texts that have a vector of this model, in the active version or in what an earlier attempt staged: a
-- chunk with such a hash is staged as a copy.
--   returns  array of hashes, at most 40000
create or replace function worker.document_known_chunks(p_id uuid, p_model text) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(hash), '[]') from (
    select distinct content_sha256 as hash from worker.document_chunks
     where document_id = p_id and embedding_model = p_model and has_vector limit 40000) known $$;
revoke all on function worker.document_known_chunks from public, anon, authenticated;
grant execute on function worker.document_known_chunks to service_role;

-- Stages chunks of the version of the current claim; nobody sees them before document_finish. A repeated batch changes
-- nothing. Renews the lease. In a database without pgvector the chunks are staged without vectors.
--   p_rows   at most 64 of {ordinal, content, headings, sha256, tokens, pageFrom, pageTo, charFrom, charTo, language,
--            injection, vector, copy}; vector = '[…]' or null, copy = take the vector of an equal hash
--   returns  {status: ok, inserted} | {status: lost | cancelled | deleted} nothing was written
--   raises   DO001 document_argument_invalid · DO002 document_vector_missing: a copy without a source (both permanent)
create or replace function worker.document_put_chunks(p_id uuid, p_item uuid, p_fence bigint, p_model text,
  p_rows jsonb, p_done int, p_total int, p_lease_seconds int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
  v_has_vectors constant boolean :=
    to_regprocedure('worker.document_put_vectors(uuid,integer,text,jsonb)') is not null;
  d worker.documents;
  v_inserted int;
begin
  if jsonb_array_length(p_rows) > 64 then
    raise exception 'document_argument_invalid: at most 64 chunks' using errcode = 'DO001';
  end if;
  if v_status <> 'ok' then
    return jsonb_build_object('status', v_status);
  end if;
  update worker.documents set stage = 'store', updated_at = now(),
    progress = jsonb_build_object('chunksDone', p_done, 'chunksTotal', p_total),
    lease_until = clock_timestamp() + make_interval(secs => least(greatest(p_lease_seconds, 1), 3600))
   where id = p_id
  returning * into d;
  insert into worker.document_chunks (document_id, version, ordinal, workspace_id, content, headings, content_sha256,
    tokens, page_from, page_to, char_from, char_to, language, injection, embedding_model, has_vector, fts)
  select p_id, d.claims, r.ordinal, d.workspace_id, r.content, coalesce(r.headings, '{}'), r.sha256, r.tokens,
    r."pageFrom", r."pageTo", r."charFrom", r."charTo", r.language, r.injection, p_model,
    v_has_vectors and (r.vector is not null or coalesce(r.copy, false)),
    case when r.language = 'en' then '' else to_tsvector('pg_catalog.spanish', words.text) end
      || case when r.language = 'es' then '' else to_tsvector('pg_catalog.english', words.text) end
    from jsonb_to_recordset(p_rows) as r (ordinal int, content text, headings text[], sha256 text, tokens int,
      "pageFrom" int, "pageTo" int, "charFrom" int, "charTo" int, language text, injection jsonb, vector text,
      copy boolean)
   cross join lateral (
     select array_to_string(coalesce(r.headings, '{}'), E'\n') || E'\n' || r.content as text) words
  on conflict on constraint document_chunks_pkey do nothing;
  get diagnostics v_inserted = row_count;
  if v_has_vectors then
    execute 'select worker.document_put_vectors($1, $2, $3, $4)' using p_id, d.claims, p_model, p_rows;
  end if;
  return jsonb_build_object('status', v_status, 'inserted', v_inserted);
end $$;
revoke all on function worker.document_put_chunks from public, anon, authenticated;
grant execute on function worker.document_put_chunks to service_role;

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

-- Forgets documents that were deleted before an instant.
--   p_limit  1 .. 1000
--   returns  how many
create or replace function worker.document_prune(p_before timestamptz, p_limit int) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_pruned int;
begin
  delete from worker.documents where id in (
    select id from worker.documents where state = 'deleted' and updated_at < p_before
     order by updated_at limit least(greatest(p_limit, 1), 1000) for update skip locked);
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
revoke all on function worker.document_prune from public, anon, authenticated;
grant execute on function worker.document_prune to service_role;

-- A document as readers get it.
create or replace function worker.document_row(d worker.documents) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('id', d.id, 'workspaceId', d.workspace_id, 'name', d.name, 'mime', d.mime,
    'storage', d.storage, 'container', d.container, 'path', d.path, 'priority', d.priority, 'state', d.state,
    'stage', d.stage, 'progress', d.progress, 'isSearchable', d.active_version is not null, 'version', d.active_version,
    'workItem', d.work_item, 'attempts', d.claims, 'failures', d.failures, 'bytes', d.bytes, 'sha256', d.content_sha256,
    'type', d.type, 'language', d.language, 'pages', d.page_count, 'chunks', d.chunk_count, 'warnings', d.warnings,
    'errorCode', d.error_code, 'errorText', d.error_text, 'createdAt', d.created_at, 'requestedAt', d.requested_at,
    'startedAt', d.started_at, 'finishedAt', d.finished_at, 'updatedAt', d.updated_at) $$;
revoke all on function worker.document_row from public, anon, authenticated;
grant execute on function worker.document_row to service_role;

-- One document.
--   returns  {status: found, document: {…}} | {status: gone | mismatch | unknown}
create or replace function worker.document_read(p_id uuid, p_workspace uuid) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
declare
  d worker.documents;
begin
  select * into d from worker.documents where id = p_id;
  return case
    when not found then jsonb_build_object('status', 'unknown')
    when d.workspace_id is distinct from p_workspace then jsonb_build_object('status', 'mismatch')
    when d.state = 'deleted' then jsonb_build_object('status', 'gone')
    else jsonb_build_object('status', 'found', 'document', worker.document_row(d)) end;
end $$;
revoke all on function worker.document_read from public, anon, authenticated;
grant execute on function worker.document_read to service_role;

-- Documents of a workspace, newest first, without the deleted ones.
--   p_states  only those; null = all
--   p_before  id of the last document of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows, next}; next = p_before of the following page or null
create or replace function worker.document_list(p_workspace uuid, p_states text[], p_before uuid, p_limit int)
returns jsonb language sql stable security invoker set search_path = '' as $$
  with page as (
    select d.* from worker.documents d
     where d.workspace_id = p_workspace and d.state <> 'deleted' and (p_states is null or d.state = any (p_states))
       and (p_before is null or (d.created_at, d.id) < (
         select b.created_at, b.id from worker.documents b where b.id = p_before and b.workspace_id = p_workspace))
     order by d.created_at desc, d.id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
    'rows', coalesce(jsonb_agg(worker.document_row(page) order by page.created_at desc, page.id desc), '[]'),
    'next', case when count(*) = least(greatest(p_limit, 1), 200)
      then (array_agg(page.id order by page.created_at, page.id))[1] end)
    from page $$;
revoke all on function worker.document_list from public, anon, authenticated;
grant execute on function worker.document_list to service_role;

-- Chunks of the active version, in order.
--   p_from   ordinal of the first
--   p_limit  1 .. 200
--   returns  {status: found, version, total, rows, next} next = p_from of the following page or null |
--            {status: gone | mismatch | unknown}
create or replace function worker.document_read_chunks(p_id uuid, p_workspace uuid, p_from int, p_limit int)
returns jsonb language plpgsql stable security invoker set search_path = '' as $$
declare
  v_limit constant int := least(greatest(p_limit, 1), 200);
  d worker.documents;
  v_rows jsonb;
begin
  select * into d from worker.documents where id = p_id;
  if not found or d.workspace_id is distinct from p_workspace or d.state = 'deleted' then
    return jsonb_build_object('status', case when d.id is null then 'unknown'
      when d.workspace_id is distinct from p_workspace then 'mismatch' else 'gone' end);
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('ordinal', c.ordinal, 'content', c.content, 'headings', c.headings,
      'tokens', c.tokens, 'pageFrom', c.page_from, 'pageTo', c.page_to, 'charFrom', c.char_from, 'charTo', c.char_to,
      'language', c.language, 'injection', c.injection, 'sha256', c.content_sha256, 'model', c.embedding_model,
      'hasVector', c.has_vector) order by c.ordinal), '[]')
    into v_rows
    from (select * from worker.document_chunks x
           where x.document_id = p_id and x.version = d.active_version and x.ordinal >= p_from
           order by x.ordinal limit v_limit) c;
  return jsonb_build_object('status', 'found', 'version', d.active_version, 'total', coalesce(d.chunk_count, 0),
    'rows', v_rows,
    'next', case when jsonb_array_length(v_rows) = v_limit and p_from + v_limit < d.chunk_count
      then p_from + v_limit end);
end $$;
revoke all on function worker.document_read_chunks from public, anon, authenticated;
grant execute on function worker.document_read_chunks to service_role;

-- A question as a query of any of its words, in the stems of both languages: safe for any text. Nothing but stop words of
-- one language is an empty query, which matches nothing.
create or replace function worker.document_or_query(p_question text) returns tsquery
language sql immutable security invoker set search_path = '' as $$
  select case when numnode(es) = 0 or numnode(en) = 0 then ''::tsquery
              else replace(es::text, ' & ', ' | ')::tsquery || replace(en::text, ' & ', ' | ')::tsquery end
    from (select plainto_tsquery('pg_catalog.spanish', p_question) as es,
                 plainto_tsquery('pg_catalog.english', p_question) as en) q $$;
revoke all on function worker.document_or_query from public, anon, authenticated;
grant execute on function worker.document_or_query to service_role;

-- Finds chunks of one workspace by their words and, where the database has pgvector, by their vectors: 50 of each leg,
-- joined by weighted reciprocal ranks (k = 60). Only what is served is found.
--   p_embedding   of the question, '[…]'; null = words only
--   p_weight_words, p_weight_vectors   of the two legs
--   p_floor       cosine similarity below which a vector says nothing
--   p_documents   only those; null = all of the workspace
--   p_limit       1 .. 50
--   returns  {rows: [{documentId, name, ordinal, headings, pageFrom, pageTo, language, snippet, content, injection,
--            score, wordRank, similarity}]}, best first; wordRank, similarity = null where that leg did not find it
create or replace function worker.document_search(p_workspace uuid, p_question text, p_embedding text, p_model text,
  p_weight_words float8, p_weight_vectors float8, p_floor float8, p_documents uuid[], p_limit int) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
declare
  v_leg constant int := 50;
  v_k constant int := 60;
  v_query constant tsquery := worker.document_or_query(p_question);
  v_near jsonb := '[]';
  v_rows jsonb;
begin
  if p_embedding is not null
     and to_regprocedure('worker.document_near_vectors(uuid,text,text,double precision,uuid[],integer)') is not null then
    execute 'select worker.document_near_vectors($1, $2, $3, $4, $5, $6)' into v_near
      using p_workspace, p_embedding, p_model, p_floor, p_documents, v_leg;
  end if;
  with words as (
    select c.document_id, c.ordinal, ts_rank(c.fts, v_query, 1) as score,
           row_number() over (order by ts_rank(c.fts, v_query, 1) desc, c.document_id, c.ordinal) as rank
      from worker.document_chunks c
      join worker.documents d on d.id = c.document_id and d.active_version = c.version
     where c.workspace_id = p_workspace and d.workspace_id = p_workspace and d.state <> 'deleted'
       and c.fts @@ v_query and (p_documents is null or c.document_id = any (p_documents))
     order by rank limit v_leg),
  vectors as (
    select r."documentId" as document_id, r.ordinal, r.similarity,
           row_number() over (order by r.similarity desc, r."documentId", r.ordinal) as rank
      from jsonb_to_recordset(v_near) as r ("documentId" uuid, ordinal int, similarity float8)),
  found as (
    select document_id, ordinal, w.score as word_score, v.similarity,
           coalesce(p_weight_words / (v_k + w.rank), 0) + coalesce(p_weight_vectors / (v_k + v.rank), 0) as score
      from words w full join vectors v using (document_id, ordinal)
     order by score desc, document_id, ordinal
     limit least(greatest(p_limit, 1), 50))
  select coalesce(jsonb_agg(jsonb_build_object('documentId', f.document_id, 'name', d.name, 'ordinal', f.ordinal,
      'headings', c.headings, 'pageFrom', c.page_from, 'pageTo', c.page_to, 'language', c.language,
      'snippet', ts_headline(
        case c.language when 'en' then 'pg_catalog.english'::regconfig else 'pg_catalog.spanish'::regconfig end,
        c.content, v_query,
        'StartSel=**, StopSel=**, MaxWords=40, MinWords=20, MaxFragments=2, FragmentDelimiter=" … "'),
      'content', c.content, 'injection', c.injection, 'score', f.score, 'wordRank', f.word_score,
      'similarity', f.similarity) order by f.score desc, f.document_id, f.ordinal), '[]')
    into v_rows
    from found f
    join worker.documents d on d.id = f.document_id
    join worker.document_chunks c
      on c.document_id = f.document_id and c.version = d.active_version and c.ordinal = f.ordinal;
  return jsonb_build_object('rows', v_rows);
end $$;
revoke all on function worker.document_search from public, anon, authenticated;
grant execute on function worker.document_search to service_role;

-- Documents that wait for a worker but that no work item may know: their enqueueing failed, or their item ended without
-- them. The caller enqueues them; where an item is alive that changes nothing. Each is answered at most once in
-- p_stale_seconds.
--   p_stale_seconds  how long nothing happened: since the last change, or since the lease was over
--   p_limit          1 .. 500
--   returns  [{id, workspaceId, priority}], oldest first
create or replace function worker.document_sweep(p_stale_seconds int, p_limit int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_before constant timestamptz := now() - make_interval(secs => p_stale_seconds);
  v_rows jsonb;
begin
  with due as (
    select id from worker.documents
     where state in ('queued', 'processing', 'retrying') and updated_at < v_before
       and (lease_until is null or lease_until < v_before)
     order by updated_at limit least(greatest(p_limit, 1), 500) for update skip locked),
  swept as (
    update worker.documents d set updated_at = now() from due where d.id = due.id
    returning d.id, d.workspace_id, d.priority, d.requested_at)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'workspaceId', workspace_id, 'priority', priority)
      order by requested_at), '[]') into v_rows from swept;
  return v_rows;
end $$;
revoke all on function worker.document_sweep from public, anon, authenticated;
grant execute on function worker.document_sweep to service_role;
