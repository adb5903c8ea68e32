-- Why: the vectors of chunks. A migration of its own, because it needs pgvector: a database without it finds documents
--   by their words.
-- Lock: none; everything is new. The index is made on an empty table; not in the embedded database, where inserting
--   into it costs more than any search saves.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing uses the new table.
create extension if not exists vector with schema extensions;

-- The vectors of chunks, apart from their texts, because a database without pgvector can do everything else. Vectors of
-- two models are never compared.
create table if not exists worker.document_vectors (
  document_id uuid not null,
  version int not null,
  ordinal int not null,
  workspace_id uuid not null,
  model text not null,
  embedding extensions.halfvec(1536) not null,
  constraint document_vectors_pkey primary key (document_id, version, ordinal),
  constraint document_vectors_chunk_fkey foreign key (document_id, version, ordinal)
    references worker.document_chunks (document_id, version, ordinal) on delete cascade
);
create index if not exists document_vectors_workspace_idx on worker.document_vectors (workspace_id, model);
alter table worker.document_vectors enable row level security;
grant select, insert, update, delete on worker.document_vectors to service_role;

do $$
begin
  -- Loads the library: only then may somebody who is not the superuser set its parameters on a function, below.
  perform '[1]'::extensions.halfvec;
  if version() not like '%emcc%' then
    create index if not exists document_vectors_embedding_idx on worker.document_vectors
      using hnsw (embedding extensions.halfvec_cosine_ops);
  end if;
end $$;

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

-- The chunks of a workspace whose vectors are nearest to one, of the same model; called by document_search. The index knows
-- nothing of workspaces: it goes on until there are enough rows.
--   returns  [{documentId, ordinal, similarity}], nearest first; similarity = cosine, at least p_floor
create or replace function worker.document_near_vectors(p_workspace uuid, p_embedding text, p_model text,
  p_floor float8, p_documents uuid[], p_limit int) returns jsonb
language sql stable security invoker set search_path = '' set hnsw.iterative_scan = 'strict_order'
set hnsw.ef_search = 100 as $$
  with near as (
    select v.document_id, v.ordinal,
           1 - (v.embedding operator(extensions.<=>) p_embedding::extensions.halfvec) as similarity
      from worker.document_vectors v
      join worker.documents d on d.id = v.document_id and d.active_version = v.version
     where v.workspace_id = p_workspace and d.workspace_id = p_workspace and d.state <> 'deleted'
       and v.model = p_model and (p_documents is null or v.document_id = any (p_documents))
     order by v.embedding operator(extensions.<=>) p_embedding::extensions.halfvec
     limit p_limit)
  select coalesce(jsonb_agg(jsonb_build_object('documentId', document_id, 'ordinal', ordinal,
      'similarity', similarity) order by similarity desc), '[]')
    from near where similarity >= p_floor $$;
revoke all on function worker.document_near_vectors from public, anon, authenticated;
grant execute on function worker.document_near_vectors to service_role;
