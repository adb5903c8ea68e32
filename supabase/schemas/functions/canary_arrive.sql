-- Says that a canary came back. Repeating it changes nothing.
--   returns  whether there is such a canary
create or replace function worker.canary_arrive(p_id uuid) returns boolean
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.canaries set arrived_at = coalesce(arrived_at, clock_timestamp()) where id = p_id;
  return found;
end $$;
revoke all on function worker.canary_arrive from public, anon, authenticated;
grant execute on function worker.canary_arrive to service_role;
