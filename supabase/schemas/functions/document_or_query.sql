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
