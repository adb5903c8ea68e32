-- Notes a change of a document in the audit log, in the transaction of the change.
--   p_audit  {actor, reason, requestId}; null = nobody asked for it through the API, and nothing is noted
create or replace function worker.document_audit(p_audit jsonb, p_action text, p_id uuid, p_details jsonb) returns void
language sql volatile security invoker set search_path = '' as $$
  select worker.audit_write(p_audit->>'actor', p_action, 'document:' || p_id, p_audit->>'reason', p_details,
    p_audit->>'requestId')
   where p_audit is not null $$;
revoke all on function worker.document_audit from public, anon, authenticated;
grant execute on function worker.document_audit to service_role;
