-- Somebody takes care of an incident: no reminders until it gets worse. The first one stands.
--   returns  {status: acknowledged | already, who, at} | {status: resolved} | {status: unknown}
create or replace function worker.alert_acknowledge(p_id bigint, p_who text, p_reason text, p_now timestamptz)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  a worker.alerts;
  v_status text := 'already';
begin
  select * into a from worker.alerts where id = p_id for update;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  if a.state = 'resolved' then
    return jsonb_build_object('status', 'resolved');
  end if;
  if a.state = 'firing' then
    v_status := 'acknowledged';
    update worker.alerts
       set state = 'acknowledged', acknowledged_at = p_now, acknowledged_by = p_who, acknowledged_reason = p_reason
     where id = p_id
    returning * into a;
  end if;
  return jsonb_build_object('status', v_status, 'who', a.acknowledged_by, 'at', a.acknowledged_at);
end $$;
revoke all on function worker.alert_acknowledge from public, anon, authenticated;
grant execute on function worker.alert_acknowledge to service_role;
