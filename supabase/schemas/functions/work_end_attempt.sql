-- Ends the attempt that a claim began. The first ending stands.
create or replace function worker.work_end_attempt(p_id uuid, p_fence bigint, p_outcome text, p_code text default null,
  p_error text default null) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.work_attempts set ended_at = clock_timestamp(), outcome = p_outcome, code = p_code, error = p_error
   where item_id = p_id and fence = p_fence and ended_at is null
$$;
revoke all on function worker.work_end_attempt from public, anon, authenticated;
grant execute on function worker.work_end_attempt to service_role;
