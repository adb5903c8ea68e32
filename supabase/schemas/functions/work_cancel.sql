-- Cancels an item: at once when it waits, at its next heartbeat when it runs.
--   p_running_max  {kind: items of a tenant that may run at once}
--   returns  {outcome: cancelled | requested | already_requested | ended | unknown, state, kind, version, payload, send}
create or replace function worker.work_cancel(p_id uuid, p_who text, p_reason text, p_running_max jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  i worker.work_items;
  v_outcome text;
begin
  select * into i from worker.work_items where id = p_id;
  if not found then
    return jsonb_build_object('outcome', 'unknown');
  end if;
  perform worker.work_lock(i.kind, i.tenant);
  select * into i from worker.work_items where id = p_id for update;
  v_outcome := case when i.state in ('succeeded', 'dead', 'cancelled') then 'ended'
                    when i.state <> 'running' then 'cancelled'
                    when i.cancel_requested_at is not null then 'already_requested' else 'requested' end;
  if v_outcome in ('cancelled', 'requested') then
    update worker.work_items
       set cancelled_by = p_who, cancel_reason = p_reason, cancel_requested_at = clock_timestamp(),
           updated_at = clock_timestamp()
     where id = p_id;
    perform worker.audit_write(p_who, 'work_cancel', 'work:' || p_id, p_reason,
      jsonb_build_object('kind', i.kind, 'state', i.state));
  end if;
  if v_outcome = 'cancelled' then
    update worker.work_items
       set state = 'cancelled', code = 'work_cancelled', sent_at = null, resend_at = null, finished_at = clock_timestamp(),
           settle_at = clock_timestamp()
     where id = p_id;
    perform worker.work_count(i.kind, 'cancelled');
  end if;
  return jsonb_build_object('outcome', v_outcome, 'state', case v_outcome when 'cancelled' then 'cancelled' else i.state end,
    'kind', i.kind, 'version', i.version, 'payload', i.payload,
    'send', case when v_outcome = 'cancelled'
                 then worker.work_refill(i.kind, i.tenant, coalesce((p_running_max ->> i.kind)::int, 0)) else '[]'::jsonb end);
end $$;
revoke all on function worker.work_cancel from public, anon, authenticated;
grant execute on function worker.work_cancel to service_role;
