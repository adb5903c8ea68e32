-- Findings of an audit, in the order in which they were found.
--   p_cause, p_tenant  only those; null = all
--   p_differences      true = without those that only explain; null = all
--   p_after   id of the last row of the page before; null = from the start
--   p_limit   1 .. 10,000
--   returns   {rows: [{id, tenant, cause, isDifference, tokens, events, relative, evidence}], next}; ids and amounts as
--             text, next = p_after of the following page or null
create or replace function worker.usage_read_findings(p_audit uuid, p_cause text default null, p_tenant text default null,
  p_differences boolean default null, p_after bigint default null, p_limit int default 100) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_audit_findings
     where audit_id = p_audit and (p_cause is null or cause = p_cause) and (p_tenant is null or tenant = p_tenant)
       and (p_differences is null or is_difference = p_differences) and (p_after is null or id > p_after)
     order by id
     limit least(greatest(p_limit, 1), 10000))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'tenant', tenant, 'cause', cause,
        'isDifference', is_difference, 'tokens', tokens::text, 'events', events::text, 'relative', relative::text,
        'evidence', evidence) order by id), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 10000) then max(id)::text end)
    from page
$$;
revoke all on function worker.usage_read_findings from public, anon, authenticated;
grant execute on function worker.usage_read_findings to service_role;
