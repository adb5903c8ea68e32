-- A person decides that what is apart stays so: it is explained, or booked by hand. The next difference starts from zero.
--   returns  {status: accepted, apart} | {status: nothing}; apart = what was apart, as text
create or replace function worker.usage_legacy_accept_drift(p_tenant text, p_who text, p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_apart numeric;
  v_cause text;
begin
  select apart, cause into v_apart, v_cause from worker.usage_legacy_tenants where tenant = p_tenant for update;
  if coalesce(v_apart, 0) = 0 then
    return jsonb_build_object('status', 'nothing');
  end if;
  update worker.usage_legacy_tenants set apart = 0, cause = null where tenant = p_tenant;
  insert into worker.usage_legacy_findings (kind, tenant, cause, tokens, evidence)
  values ('drift', p_tenant, 'accepted', -v_apart, jsonb_build_object('who', p_who, 'why', p_reason, 'cause', v_cause));
  return jsonb_build_object('status', 'accepted', 'apart', v_apart::text);
end $$;
revoke all on function worker.usage_legacy_accept_drift from public, anon, authenticated;
grant execute on function worker.usage_legacy_accept_drift to service_role;
