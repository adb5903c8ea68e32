-- Notes one change in the audit log. Other SQL functions call it in the transaction of the change, so that there is no
-- change without its row and no row without its change.
--   p_actor       name of the key or identity that asked for it
--   p_action      <feature>_<verb>, such as job_disable
--   p_subject     <kind>:<id> of what was changed
--   p_reason      why, in the actor's words; null = no reason was asked for
--   p_details     {before, after, …}: ids, states, counts, at most 16 KiB; never content
--   p_request_id  runId of the request
--   returns  id of the row, as text
create or replace function worker.audit_write(p_actor text, p_action text, p_subject text, p_reason text,
  p_details jsonb default '{}', p_request_id text default null) returns text
language sql volatile security invoker set search_path = '' as $$
  insert into worker.audit_log (actor, action, subject, reason, details, request_id)
  values (p_actor, p_action, p_subject, p_reason, coalesce(p_details, '{}'), p_request_id)
  returning id::text
$$;
revoke all on function worker.audit_write from public, anon, authenticated;
grant execute on function worker.audit_write to service_role;
