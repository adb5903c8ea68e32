-- Renews the lease of a claim, also when it ran out and nobody came.
--   p_progress  shows in the item; null = as it was
--   returns     {isHeld, isCancelled}
create or replace function worker.work_heartbeat(p_id uuid, p_fence bigint, p_lease_ms int, p_progress jsonb default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_cancelled boolean;
begin
  update worker.work_items
     set lease_until = clock_timestamp() + p_lease_ms * interval '1 millisecond',
         progress = coalesce(p_progress, progress), updated_at = clock_timestamp()
   where id = p_id and fence = p_fence and state = 'running'
  returning cancel_requested_at is not null into v_cancelled;
  return jsonb_build_object('isHeld', found, 'isCancelled', coalesce(v_cancelled, false));
end $$;
revoke all on function worker.work_heartbeat from public, anon, authenticated;
grant execute on function worker.work_heartbeat to service_role;
