-- Stores the vectors of chunks that document_put_chunks has just staged; called by it.
--   raises   DO002 document_vector_missing (permanent): a copy without a source
create or replace function worker.document_put_vectors(p_id uuid, p_version int, p_model text, p_rows jsonb)
returns void language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_wanted int;
  v_stored int;
begin
  insert into worker.document_vectors (document_id, version, ordinal, workspace_id, model, embedding)
  select p_id, p_version, r.ordinal, c.workspace_id, p_model,
         case when coalesce(r.copy, false) then copied.embedding else r.vector::extensions.halfvec end
    from jsonb_to_recordset(p_rows) as r (ordinal int, sha256 text, vector text, copy boolean)
    join worker.document_chunks c on c.document_id = p_id and c.version = p_version and c.ordinal = r.ordinal
    left join lateral (
      select v.embedding from worker.document_chunks x
        join worker.document_vectors v using (document_id, version, ordinal)
       where coalesce(r.copy, false) and x.document_id = p_id and x.content_sha256 = r.sha256
         and x.version <> p_version and v.model = p_model
       limit 1) copied on true
   where r.vector is not null or copied.embedding is not null
  on conflict on constraint document_vectors_pkey do nothing;
  select count(*), count(v.ordinal) into v_wanted, v_stored
    from jsonb_to_recordset(p_rows) as r (ordinal int, vector text, copy boolean)
    left join worker.document_vectors v
      on v.document_id = p_id and v.version = p_version and v.ordinal = r.ordinal
   where r.vector is not null or coalesce(r.copy, false);
  if v_stored <> v_wanted then
    raise exception 'document_vector_missing' using errcode = 'DO002';
  end if;
end $$;
revoke all on function worker.document_put_vectors from public, anon, authenticated;
grant execute on function worker.document_put_vectors to service_role;
