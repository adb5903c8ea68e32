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
