-- What was changed, newest first.
--   p_actor, p_action, p_subject  only those; null = all
--   p_before  id of the last row of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{id, at, actor, action, subject, reason, requestId, details}], next}; ids as text, next = p_before of
--             the following page or null
create or replace function worker.audit_read(p_actor text default null, p_action text default null,
  p_subject text default null, p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.audit_log
     where (p_actor is null or actor = p_actor) and (p_action is null or action = p_action)
       and (p_subject is null or subject = p_subject) and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'at', occurred_at, 'actor', actor, 'action', action,
        'subject', subject, 'reason', reason, 'requestId', request_id, 'details', details) order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.audit_read from public, anon, authenticated;
grant execute on function worker.audit_read to service_role;
