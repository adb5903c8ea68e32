-- For functions that write in the name of an item, in their own transaction: holds only for the claim that still has it,
-- and nobody can take it over before that transaction ends.
--   raises  WK002 work_fence_stale (permanent)
create or replace function worker.work_assert_fence(p_id uuid, p_fence bigint) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform from worker.work_items where id = p_id and fence = p_fence and state = 'running' for share;
  if not found then
    raise exception 'work_fence_stale' using errcode = 'WK002';
  end if;
end $$;
revoke all on function worker.work_assert_fence from public, anon, authenticated;
grant execute on function worker.work_assert_fence to service_role;
