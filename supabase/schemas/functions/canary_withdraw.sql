-- Forgets canaries that could not be sent.
create or replace function worker.canary_withdraw(p_ids uuid[]) returns void
language sql volatile security invoker set search_path = '' as $$
  delete from worker.canaries where id = any (p_ids) and arrived_at is null
$$;
revoke all on function worker.canary_withdraw from public, anon, authenticated;
grant execute on function worker.canary_withdraw to service_role;
