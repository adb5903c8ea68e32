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
