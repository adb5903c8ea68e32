-- A page of the remembered counters of a scope, by tenant and key, with both sides of each tenant in it. Read it before
-- the counters themselves: a use is counted before it is booked, so what is booked by now is counted by then.
--   p_after_tenant, p_after_key  last row of the page before; '' = from the start
--   p_limit  1 .. 5000
--   returns  {based, counters: [{key, tenant, seen, generation}], tenants: [{tenant, direct, pending, grown,
--            comparedDirect, comparedPending, comparedGrown, apart, cause, setAside}]}; amounts as text, setAside =
--            members of the tenant that wait in quarantine
create or replace function worker.usage_legacy_list_counters(p_scope text, p_after_tenant text, p_after_key text,
  p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select key, tenant, seen, generation from worker.usage_legacy_counters
     where scope = p_scope and (tenant, key) > (p_after_tenant collate "C", p_after_key collate "C")
     order by tenant, key
     limit least(greatest(p_limit, 1), 5000))
  select jsonb_build_object(
      'based', exists (select from worker.usage_legacy_scopes where scope = p_scope),
      'counters', (select coalesce(jsonb_agg(jsonb_build_object('key', key, 'tenant', tenant, 'seen', seen::text,
                     'generation', generation) order by tenant, key), '[]') from page),
      'tenants', (select coalesce(jsonb_agg(jsonb_build_object('tenant', t.tenant, 'direct', t.direct::text,
                     'pending', t.pending::text, 'grown', t.grown::text,
                     'comparedDirect', t.compared_direct::text, 'comparedPending', t.compared_pending::text,
                     'comparedGrown', t.compared_grown::text, 'apart', t.apart::text, 'cause', t.cause,
                     'setAside', (select count(*) from worker.usage_quarantine q
                                   where q.tenant = t.tenant and q.lane = 'legacy_pending' and q.resolved_at is null))
                     order by t.tenant), '[]')
                    from worker.usage_legacy_tenants t where t.tenant in (select tenant from page)))
$$;
revoke all on function worker.usage_legacy_list_counters from public, anon, authenticated;
grant execute on function worker.usage_legacy_list_counters to service_role;
