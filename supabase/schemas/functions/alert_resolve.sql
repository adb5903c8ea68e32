-- Says that what was reported under a key is over. Repeating it changes nothing.
--   returns  {status: resolved, id, level, count, firstSeen} | {status: none}   nothing is open under the key
create or replace function worker.alert_resolve(p_key text, p_now timestamptz) returns jsonb
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  a worker.alerts;
begin
  update worker.alerts set state = 'resolved', resolved_at = p_now
   where key = p_key and resolved_at is null
  returning * into a;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  insert into worker.alert_notices (alert_id, reason, level, value, noticed_at)
  values (a.id, 'resolved', a.level, a.value, p_now);
  return jsonb_build_object('status', 'resolved', 'id', a.id::text, 'level', a.level, 'count', a.count::text,
    'firstSeen', a.first_seen);
end $$;
revoke all on function worker.alert_resolve from public, anon, authenticated;
grant execute on function worker.alert_resolve to service_role;
