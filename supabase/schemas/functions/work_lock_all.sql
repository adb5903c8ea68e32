-- Locks the turns of all tenants of some items, in one order for everybody.
create or replace function worker.work_lock_all(p_ids uuid[]) returns void
language plpgsql volatile security invoker set search_path = '' as $$
declare
  t record;
begin
  for t in select distinct kind, tenant from worker.work_items where id = any (p_ids) order by 1, 2 loop
    perform worker.work_lock(t.kind, t.tenant);
  end loop;
end $$;
revoke all on function worker.work_lock_all from public, anon, authenticated;
grant execute on function worker.work_lock_all to service_role;
