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
