-- A question as a query of any of its words, in the stems of both languages: safe for any text. Nothing but stop words
-- is an empty query, which matches nothing.
create or replace function worker.document_or_query(p_question text) returns tsquery
language sql immutable security invoker set search_path = '' as $$
  select replace(plainto_tsquery('pg_catalog.spanish', p_question)::text, ' & ', ' | ')::tsquery
    || replace(plainto_tsquery('pg_catalog.english', p_question)::text, ' & ', ' | ')::tsquery
    || replace(plainto_tsquery('pg_catalog.simple', p_question)::text, ' & ', ' | ')::tsquery $$;
revoke all on function worker.document_or_query from public, anon, authenticated;
grant execute on function worker.document_or_query to service_role;
