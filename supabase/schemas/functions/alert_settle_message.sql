-- Stores what became of a message. A settlement by somebody whose claim is over changes nothing.
--   p_outcome        sent | failed: it did not arrive, may work later | refused: it did not arrive and never will
--                    | unknown: nobody can say | released: it was not tried
--   p_retry_seconds  of failed: when to try again
--   p_attempts_max   of failed: after which it is dead
--   returns  {status: settled, state} | {status: stale}
create or replace function worker.alert_settle_message(p_message bigint, p_attempt int, p_outcome text, p_error text,
  p_retry_seconds int, p_attempts_max int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_state text := case
    when p_outcome in ('sent', 'unknown') then p_outcome
    when p_outcome = 'released' then 'retrying'
    when p_outcome = 'failed' and p_attempt < p_attempts_max then 'retrying'
    when p_outcome in ('failed', 'refused') then 'dead' end;
begin
  update worker.alert_messages
     set state = v_state,
         attempt = case when p_outcome = 'released' then attempt - 1 else attempt end,
         error = left(p_error, 100),
         next_attempt_at = case when v_state = 'retrying' then v_now + make_interval(secs => p_retry_seconds) end,
         ended_at = case when v_state <> 'retrying' then v_now end
   where id = p_message and attempt = p_attempt and state = 'sending';
  if not found then
    return jsonb_build_object('status', 'stale');
  end if;
  return jsonb_build_object('status', 'settled', 'state', v_state);
end $$;
revoke all on function worker.alert_settle_message from public, anon, authenticated;
grant execute on function worker.alert_settle_message to service_role;
