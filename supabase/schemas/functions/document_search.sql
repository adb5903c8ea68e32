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
