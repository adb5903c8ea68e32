-- The features know that these items ended.
create or replace function worker.work_settled(p_ids uuid[]) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.work_items set settle_at = null where id = any (p_ids) and state in ('dead', 'cancelled')
$$;
revoke all on function worker.work_settled from public, anon, authenticated;
grant execute on function worker.work_settled to service_role;
