-- Says that the work goes on, and where it is. Renews the lease.
--   returns  {status: ok | lost | cancelled | deleted}; anything but ok: stop and write nothing
create or replace function worker.document_touch(p_id uuid, p_item uuid, p_fence bigint, p_stage text,
  p_progress jsonb, p_lease_seconds int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_status constant text := worker.document_hold(p_id, p_item, p_fence);
begin
  if v_status = 'ok' then
    update worker.documents set stage = p_stage, progress = coalesce(p_progress, '{}'), updated_at = now(),
      lease_until = clock_timestamp() + make_interval(secs => least(greatest(p_lease_seconds, 1), 3600))
     where id = p_id;
  end if;
  return jsonb_build_object('status', v_status);
end $$;
revoke all on function worker.document_touch from public, anon, authenticated;
grant execute on function worker.document_touch to service_role;
