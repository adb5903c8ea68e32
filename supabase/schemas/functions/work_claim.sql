-- Takes an item for one attempt. Its lease must be renewed by work_heartbeat; after it anybody may take the item over,
-- which counts as a crash of the first.
--   p_worker       the process
--   p_running_max  items of its tenant that may run at once; an item above waits for its turn and will be sent again
--   p_random       0 up to, not including, 1
--   returns  {outcome: claimed, id, kind, version, tenant, priority, payload, attempt, fence}
--          | {outcome: unknown | gone | busy | throttled}         the message has done its work
--          | {outcome: not_due | alone, delayMs, priority}         send it again with that delay
--          | {outcome: ended, state, code, id, kind, version, payload, send}   taken over, and that was its end
create or replace function worker.work_claim(p_id uuid, p_worker text, p_lease_ms int, p_running_max int,
  p_random float8) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  c_patience constant interval := '10 minutes';
  i worker.work_items;
  v_now timestamptz;
  v_state text;
begin
  select * into i from worker.work_items where id = p_id;
  if not found then
    return jsonb_build_object('outcome', 'unknown');
  end if;
  perform worker.work_lock(i.kind, i.tenant);
  select * into i from worker.work_items where id = p_id for update;
  v_now := clock_timestamp();
  if i.id is null or i.state in ('succeeded', 'dead', 'cancelled') then
    return jsonb_build_object('outcome', 'gone');
  elsif i.state = 'running' and i.lease_until > v_now then
    return jsonb_build_object('outcome', 'busy');
  elsif i.state = 'running' then
    v_state := worker.work_recover(p_id, p_random);
    select * into i from worker.work_items where id = p_id;
    v_now := clock_timestamp();
    if v_state <> 'retrying' then
      return jsonb_build_object('outcome', 'ended', 'state', i.state, 'code', i.code, 'id', i.id, 'kind', i.kind,
        'version', i.version, 'payload', i.payload, 'send', worker.work_refill(i.kind, i.tenant, p_running_max));
    end if;
  end if;

  if i.due_at > v_now then
    update worker.work_items
       set sent_at = v_now, sends = greatest(sends, 1), resend_at = worker.work_resend_at(i.due_at, sends)
     where id = p_id;
    return jsonb_build_object('outcome', 'not_due', 'priority', i.priority,
      'delayMs', ceil(extract(epoch from i.due_at - v_now) * 1000)::bigint);
  end if;
  if (select count(*) from worker.work_items
       where kind = i.kind and tenant = i.tenant and state = 'running') >= p_running_max then
    update worker.work_items set sent_at = null, resend_at = null, updated_at = v_now where id = p_id;
    return jsonb_build_object('outcome', 'throttled');
  end if;
  -- One that took two workers down would take its neighbours with it a third time: it runs alone, if that can be had.
  if v_now < i.due_at + c_patience and exists (
    select from worker.work_items
     where claimed_by = p_worker and state = 'running' and lease_until > v_now and (crashes >= 2 or i.crashes >= 2)) then
    update worker.work_items
       set sent_at = v_now, sends = greatest(sends, 1),
           resend_at = worker.work_resend_at(v_now + interval '15 seconds', sends)
     where id = p_id;
    return jsonb_build_object('outcome', 'alone', 'priority', i.priority, 'delayMs', 2000 + (8000 * p_random)::int);
  end if;

  update worker.work_items
     set state = 'running', attempts = failures + crashes + 1, fence = fence + 1, claimed_by = p_worker,
         started_at = v_now, lease_until = v_now + p_lease_ms * interval '1 millisecond', sent_at = null,
         resend_at = null, sends = 0, progress = null, updated_at = v_now
   where id = p_id
  returning * into i;
  insert into worker.work_attempts (item_id, fence, attempt, worker, started_at)
  values (i.id, i.fence, i.attempts, p_worker, v_now);
  return jsonb_build_object('outcome', 'claimed', 'id', i.id, 'kind', i.kind, 'version', i.version, 'tenant', i.tenant,
    'priority', i.priority, 'payload', i.payload, 'attempt', i.attempts, 'fence', i.fence);
end $$;
revoke all on function worker.work_claim from public, anon, authenticated;
grant execute on function worker.work_claim to service_role;
