-- One decision about the turns of a tenant at a time, until the transaction ends.
create or replace function worker.work_lock(p_kind text, p_tenant text) returns void
language sql volatile security invoker set search_path = '' as $$
  select pg_advisory_xact_lock(hashtextextended('work:' || p_kind || ':' || p_tenant, 0))
$$;
revoke all on function worker.work_lock from public, anon, authenticated;
grant execute on function worker.work_lock to service_role;
