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
