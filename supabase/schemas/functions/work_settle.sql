-- Ends a claim. Repeating it after a lost reply changes nothing and says the same. Somebody who does not hold the item
-- any more changes nothing; that is counted.
--   p_outcome      succeeded | transient (another attempt, if it has any) | permanent (dead at once) | cancelled
--                | released (back as it was, counts nothing)
--   p_code, p_error  why, for what is no success
--   p_result       object, for a success
--   p_delay_ms     at least this long until the next attempt
--   p_random       0 up to, not including, 1: the share of the delay of 30 s, doubled with every failure, at most 6 h
--   p_has_settle   the feature wants to know about an end without success; work_settled says that it does
--   returns  {status: ok, state, delayMs, priority, send}   delayMs: send it again with that delay; null = it ended
--          | {status: stale}
--   raises   WK001 work_argument_invalid
create or replace function worker.work_settle(p_id uuid, p_fence bigint, p_outcome text, p_running_max int,
  p_code text default null, p_error text default null, p_result jsonb default null, p_evidence jsonb default null,
  p_delay_ms bigint default 0, p_random float8 default 0, p_has_settle boolean default false) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  i worker.work_items;
  v_now timestamptz;
  v_state text;
  v_delay interval := '0';
begin
  if p_outcome is null or p_outcome not in ('succeeded', 'transient', 'permanent', 'cancelled', 'released') then
    raise exception 'work_argument_invalid: no such outcome' using errcode = 'WK001';
  end if;
  select * into i from worker.work_items where id = p_id;
  if not found then
    return jsonb_build_object('status', 'stale');
  end if;
  perform worker.work_lock(i.kind, i.tenant);
  select * into i from worker.work_items where id = p_id for update;
  v_now := clock_timestamp();
  if i.id is null or i.fence <> p_fence or i.state <> 'running' then
    if i.fence = p_fence and exists (select from worker.work_attempts
         where item_id = p_id and fence = p_fence and ended_at is not null and outcome <> 'crashed') then
      return jsonb_build_object('status', 'ok', 'state', i.state, 'priority', i.priority, 'send', '[]'::jsonb,
        'delayMs', case when i.state in ('queued', 'retrying')
                        then greatest(0, ceil(extract(epoch from i.due_at - v_now) * 1000)::bigint) end);
    end if;
    update worker.work_items set stale_writes = stale_writes + 1 where id = p_id;
    perform worker.work_count(i.kind, 'stale_writes');
    return jsonb_build_object('status', 'stale');
  end if;

  v_state := case p_outcome
    when 'succeeded' then 'succeeded'
    when 'released' then case when i.cancel_requested_at is null then 'queued' else 'cancelled' end
    when 'cancelled' then 'cancelled'
    when 'permanent' then 'dead'
    else case when i.cancel_requested_at is not null then 'cancelled'
              when i.failures + 1 >= i.max_attempts then 'dead' else 'retrying' end end;
  if v_state = 'retrying' then
    v_delay := greatest(interval '1 millisecond' * least(greatest(p_delay_ms, 0), 21600000),
      p_random * least(interval '6 hours', interval '30 seconds' * power(2, least(i.failures, 16))));
  end if;
  update worker.work_items
     set state = v_state, lease_until = null, updated_at = v_now, due_at = v_now + v_delay,
         failures = failures + (p_outcome in ('transient', 'permanent'))::int,
         code = case when v_state = 'cancelled' then 'work_cancelled' when p_outcome in ('transient', 'permanent') then p_code
                     when v_state = 'succeeded' then null else code end,
         error = case when p_outcome in ('transient', 'permanent') then left(p_error, 500)
                      when v_state = 'succeeded' then null else error end,
         evidence = coalesce(p_evidence, evidence), result = coalesce(p_result, result),
         finished_at = case when v_state in ('succeeded', 'dead', 'cancelled') then v_now end,
         sent_at = case when v_state in ('queued', 'retrying') then v_now end,
         sends = (v_state in ('queued', 'retrying'))::int,
         resend_at = case when v_state in ('queued', 'retrying') then worker.work_resend_at(v_now + v_delay, 1) end,
         settle_at = case when v_state in ('dead', 'cancelled') and p_has_settle then v_now + interval '1 minute' end
   where id = p_id;
  perform worker.work_end_attempt(p_id, p_fence, case v_state when 'queued' then 'released' else v_state end, p_code,
    left(p_error, 500));
  if v_state in ('succeeded', 'dead', 'cancelled') then
    perform worker.work_count(i.kind, v_state);
  end if;
  return jsonb_build_object('status', 'ok', 'state', v_state, 'priority', i.priority,
    'delayMs', case when v_state in ('queued', 'retrying') then ceil(extract(epoch from v_delay) * 1000)::bigint end,
    'send', worker.work_refill(i.kind, i.tenant, p_running_max));
end $$;
revoke all on function worker.work_settle from public, anon, authenticated;
grant execute on function worker.work_settle to service_role;
