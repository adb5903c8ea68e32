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
