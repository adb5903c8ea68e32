-- Closes a month, or says what keeps it from being closed. Repeating it is harmless: barriers are noted once, and a
-- month that is closed stays as it is.
--   Lock: whoever books holds a lock on usage_shards from its first statement to its commit. The lock below waits for
--   all of them and lets the next ones in only after the month is closed, so that nothing is booked into a month while
--   it closes. It is held for milliseconds; it gives up after 5 s rather than hold up the bookings.
--   p_heads        [{shard, inc, n}] of every shard, read from Redis before this call; at most 4096
--   p_grace_hours  how long after its end a month waits for late uses; counts from the first call
--   p_who          who asked; p_reason: why, when a person did
--   p_despite      reasons that a person overrules: grace, open_gap, open_quarantine
--   p_now          the caller's clock
--   returns  {status: closed, closedAt, isNew} | {status: closing, heldBy}, see usage_period_held_by
--          | {status: running, until}   the month is not over
--   raises   UL001 usage_argument_invalid (permanent), 55P03 when the bookings did not pause within 5 s (transient)
create or replace function worker.usage_close_period(p_period int, p_heads jsonb, p_grace_hours int, p_who text,
  p_reason text, p_despite text[], p_now timestamptz) returns jsonb
language plpgsql volatile security invoker
set search_path = '' set timezone = 'UTC' set lock_timeout = '5s' set statement_timeout = '20s' as $$
declare
  p worker.usage_periods;
  v_end timestamptz := worker.usage_period_start(p_period) + interval '1 month';
  v_held jsonb;
begin
  if p_grace_hours is null or p_grace_hours not between 0 and 744 or jsonb_array_length(p_heads) not between 1 and 4096
     or not coalesce(p_despite, '{}') <@ array['grace', 'open_gap', 'open_quarantine'] then
    raise exception 'usage_argument_invalid: 1 to 4096 heads, grace of 0 to 744 hours, known reasons' using errcode = 'UL001';
  end if;
  if p_now < v_end then
    return jsonb_build_object('status', 'running', 'until', v_end);
  end if;
  insert into worker.usage_periods (period, state, closing_at, grace_until)
  values (p_period, 'closing', p_now, v_end + make_interval(hours => p_grace_hours))
  on conflict on constraint usage_periods_pkey do nothing;
  select * into p from worker.usage_periods where period = p_period for update; -- one closer at a time
  if p.state = 'closed' then
    return jsonb_build_object('status', 'closed', 'closedAt', p.closed_at, 'isNew', false);
  end if;
  update worker.usage_periods
     set state = 'closing', closing_at = coalesce(closing_at, p_now),
         grace_until = coalesce(grace_until, v_end + make_interval(hours => p_grace_hours))
   where period = p_period
  returning * into p;

  if p_now >= p.grace_until or 'grace' = any (p_despite) then
    perform worker.usage_note_barriers(p_period, p_heads, p_now);
  end if;
  v_held := worker.usage_period_held_by(p_period, p_now, coalesce(p_despite, '{}'));
  if v_held = '[]' then
    lock table worker.usage_shards in exclusive mode;
    -- Again: what was booked while we waited may have opened a gap.
    v_held := worker.usage_period_held_by(p_period, p_now, coalesce(p_despite, '{}'));
  end if;
  if v_held <> '[]' then
    update worker.usage_periods set held_by = v_held, checked_at = p_now where period = p_period;
    return jsonb_build_object('status', 'closing', 'heldBy', v_held);
  end if;
  update worker.usage_periods
     set state = 'closed', held_by = '[]', checked_at = p_now, closed_by = p_who, reason = p_reason,
         despite = coalesce(p_despite, '{}'), closed_at = clock_timestamp() -- after everything that was booked before
   where period = p_period
  returning * into p;
  return jsonb_build_object('status', 'closed', 'closedAt', p.closed_at, 'isNew', true);
end $$;
revoke all on function worker.usage_close_period from public, anon, authenticated;
grant execute on function worker.usage_close_period to service_role;
