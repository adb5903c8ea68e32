-- Why: a month is billed once. It is closed when its grace is over and every shard was read past that instant, and sealed
--   with its sums and a hash.
-- Lock: an exclusive lock on usage_periods, a table of a few rows, for nullable columns. The rest is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; it reads the state of a month and nothing else.

alter table worker.usage_periods add column if not exists closing_at timestamptz;
alter table worker.usage_periods add column if not exists grace_until timestamptz;
alter table worker.usage_periods add column if not exists held_by jsonb not null default '[]';
alter table worker.usage_periods add column if not exists checked_at timestamptz;
alter table worker.usage_periods add column if not exists closed_by text;
alter table worker.usage_periods add column if not exists reason text;
alter table worker.usage_periods add column if not exists despite text[] not null default '{}';
alter table worker.usage_periods add column if not exists seal_next int not null default 0;
alter table worker.usage_periods add column if not exists sealed_at timestamptz;
alter table worker.usage_periods add column if not exists tenants bigint;
alter table worker.usage_periods add column if not exists tokens numeric;
alter table worker.usage_periods add column if not exists events bigint;
alter table worker.usage_periods add column if not exists checksum text;

-- What each shard contributes to the end of a month. The barrier: how far its log was when the month and its grace were
-- over; everything up to it belongs to the month or was late already. The seal: what the shard's totals were when the
-- month was closed.
create table if not exists worker.usage_period_shards (
  period int not null,
  shard int not null,
  inc text,                                -- lineage of the barrier; '' = the log was empty, null = no barrier yet
  n bigint,                                -- last entry of the log at the barrier
  noted_at timestamptz,
  passed_at timestamptz,                   -- the cursor had passed it
  tenants bigint,                          -- null until the month is sealed
  tokens numeric,
  events bigint,
  checksum text,                           -- see usage_shard_digests
  constraint usage_period_shards_pkey primary key (period, shard),
  constraint usage_period_shards_period_fkey foreign key (period) references worker.usage_periods (period)
    on delete cascade,
  constraint usage_period_shards_barrier_check check ((inc is null) = (n is null) and (inc is null) = (noted_at is null)),
  constraint usage_period_shards_seal_check check (
    (checksum is null) = (tenants is null) and (checksum is null) = (tokens is null) and (checksum is null) = (events is null))
);
alter table worker.usage_period_shards enable row level security;
grant select, insert, update, delete on worker.usage_period_shards to service_role;

-- First instant of a month, UTC.
create or replace function worker.usage_period_start(p_period int) returns timestamptz
language sql immutable strict security invoker set search_path = '' as $$
  select make_timestamptz(p_period / 100, p_period % 100, 1, 0, 0, 0, 'UTC')
$$;
revoke all on function worker.usage_period_start from public, anon, authenticated;
grant execute on function worker.usage_period_start to service_role;

-- Part of usage_close_period: notes how far each log is, once, and which cursors have passed that. A shard whose log
-- became another one meanwhile gets a new barrier: everything Redis still holds is read again. What was passed once
-- stays passed.
--   p_heads  [{shard, inc, n}], read from Redis before this call; inc '' = the log is empty
create or replace function worker.usage_note_barriers(p_period int, p_heads jsonb, p_now timestamptz) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  insert into worker.usage_period_shards as b (period, shard, inc, n, noted_at)
  select p_period, h.shard, h.inc, h.n, p_now
    from jsonb_to_recordset(p_heads) as h (shard int, inc text, n bigint)
   order by h.shard
  on conflict on constraint usage_period_shards_pkey do update
    set inc = excluded.inc, n = excluded.n, noted_at = excluded.noted_at
    where b.passed_at is null and b.inc is distinct from excluded.inc;
  update worker.usage_period_shards b
     set passed_at = p_now
   where b.period = p_period and b.passed_at is null and b.inc is not null
     and case when b.inc = '' -- nothing in Redis; a cursor that had a log first has to follow it
              then not exists (select from worker.usage_shards s where s.shard = b.shard and s.inc <> '')
              else exists (select from worker.usage_shards s where s.shard = b.shard and s.inc = b.inc and s.n >= b.n) end;
end $$;
revoke all on function worker.usage_note_barriers from public, anon, authenticated;
grant execute on function worker.usage_note_barriers to service_role;

-- Part of usage_close_period: what keeps a month from being closed; [] = nothing. At most ten ids of each.
--   p_despite  kinds of reasons that a person overrules: grace, open_gap, open_quarantine
--   returns    [{reason: grace, until} | {reason: shards_behind, shards, sample} | {reason: open_gap, gaps, tokens, ids}
--              | {reason: open_quarantine, entries, ids}]; numbers that may be large as text
create or replace function worker.usage_period_held_by(p_period int, p_now timestamptz, p_despite text[]) returns jsonb
language plpgsql stable security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_from timestamptz := worker.usage_period_start(p_period);
  v_until timestamptz := (select grace_until from worker.usage_periods where period = p_period);
  v_held jsonb := '[]';
  v_found jsonb;
begin
  if p_now < v_until and not 'grace' = any (p_despite) then
    v_held := v_held || jsonb_build_object('reason', 'grace', 'until', v_until);
  else
    select jsonb_build_object('reason', 'shards_behind', 'shards', count(*),
             'sample', to_jsonb((array_agg(shard order by shard))[1:10]))
      into v_found
      from (select shard, b.passed_at
              from (select shard from worker.usage_shards where inc <> '') s -- also one that nobody noted
              full join (select * from worker.usage_period_shards where period = p_period and inc is not null) b
                using (shard)) shards
     where passed_at is null
    having count(*) > 0;
    v_held := v_held || coalesce(v_found, '[]');
  end if;

  -- A loss that was noticed before the month began is none of the month's, nor is one of entries after the barrier, nor
  -- one that was noticed after everything up to the barrier had been read.
  select jsonb_build_object('reason', 'open_gap', 'gaps', count(*), 'tokens', sum(g.tokens_lost - g.recovered)::text,
           'ids', to_jsonb((array_agg(g.id::text order by g.id))[1:10]))
    into v_found
    from worker.usage_gaps g
    left join worker.usage_period_shards b on b.period = p_period and b.shard = g.shard
   where (g.tokens_lost <> g.recovered or g.entries_lost <> g.entries_recovered) and g.detected_at >= v_from
     and not (g.inc = coalesce(b.inc, '') and g.from_n > b.n)
     and (b.passed_at is null or g.detected_at <= b.passed_at)
  having count(*) > 0;
  if not 'open_gap' = any (p_despite) then
    v_held := v_held || coalesce(v_found, '[]');
  end if;

  -- Of an entry without a readable month only the time says that it may be of this one.
  select jsonb_build_object('reason', 'open_quarantine', 'entries', count(*),
           'ids', to_jsonb((array_agg(id::text order by id))[1:10]))
    into v_found
    from worker.usage_quarantine
   where resolved_at is null
     and (period = p_period or (period is null and detected_at >= v_from and detected_at < v_until))
  having count(*) > 0;
  if not 'open_quarantine' = any (p_despite) then
    v_held := v_held || coalesce(v_found, '[]');
  end if;
  return v_held;
end $$;
revoke all on function worker.usage_period_held_by from public, anon, authenticated;
grant execute on function worker.usage_period_held_by to service_role;

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

-- What the totals of a month are, shard by shard: the seal of a closed month, and what an audit compares with it.
--   returns  checksum: sha256, as hex, over the lines "<tenant><tab><tokens><line feed>" of the shard in order of the
--            tenant's bytes. Tenant ids hold no control characters.
create or replace function worker.usage_shard_digests(p_period int, p_from int, p_to int)
returns table (shard int, tenants bigint, tokens numeric, events bigint, checksum text)
language sql stable security invoker set search_path = '' set jit = off set work_mem = '64MB' as $$
  select t.shard, count(*), sum(t.tokens), sum(t.events)::bigint,
         encode(sha256(convert_to(string_agg(t.tenant || E'\t' || t.tokens || E'\n', '' order by t.tenant), 'UTF8')), 'hex')
    from worker.usage_totals t
   where t.period = p_period and t.shard between p_from and p_to
   group by t.shard
$$;
revoke all on function worker.usage_shard_digests from public, anon, authenticated;
grant execute on function worker.usage_shard_digests to service_role;

-- Writes down what a closed month was, a range of shards at a time, from where the call before ended; the last range
-- completes the seal. Nothing is booked into a closed month, so it does not matter when this runs.
--   p_shards  how many shards this call takes, 1 .. 256; the last call takes every further one
--   returns   {status: sealing | sealed | open}; open = the month is not closed, nothing changed
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_seal_period(p_period int, p_shards int) returns jsonb
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '20s' as $$
declare
  p worker.usage_periods;
  v_next int;
begin
  if coalesce(p_shards, 0) not between 1 and 256 then
    raise exception 'usage_argument_invalid: p_shards must be 1 to 256' using errcode = 'UL001';
  end if;
  select * into p from worker.usage_periods where period = p_period for update;
  if p.state is distinct from 'closed' then
    return jsonb_build_object('status', 'open');
  end if;
  if p.sealed_at is not null then
    return jsonb_build_object('status', 'sealed');
  end if;
  v_next := case when p.seal_next + p_shards >= 256 then 65536 else p.seal_next + p_shards end;
  insert into worker.usage_period_shards as s (period, shard, tenants, tokens, events, checksum)
  select p_period, d.shard, d.tenants, d.tokens, d.events, d.checksum
    from worker.usage_shard_digests(p_period, p.seal_next, v_next - 1) d
  on conflict on constraint usage_period_shards_pkey do update
    set tenants = excluded.tenants, tokens = excluded.tokens, events = excluded.events, checksum = excluded.checksum;
  update worker.usage_periods set seal_next = v_next where period = p_period;
  if v_next < 65536 then
    return jsonb_build_object('status', 'sealing');
  end if;
  update worker.usage_periods
     set sealed_at = clock_timestamp(), tenants = s.tenants, tokens = s.tokens, events = s.events, checksum = s.checksum
    from (select coalesce(sum(tenants), 0) as tenants, coalesce(sum(tokens), 0) as tokens,
                 coalesce(sum(events), 0) as events,
                 encode(sha256(convert_to(coalesce(string_agg(shard || E'\t' || checksum || E'\n', '' order by shard), ''),
                   'UTF8')), 'hex') as checksum
            from worker.usage_period_shards where period = p_period and checksum is not null) s
   where period = p_period;
  return jsonb_build_object('status', 'sealed');
end $$;
revoke all on function worker.usage_seal_period from public, anon, authenticated;
grant execute on function worker.usage_seal_period to service_role;

-- Months that the closing job has to look at: those that are over and not closed, from the one after the last closed
-- month on (or from the installation), those that are closing, and closed ones whose seal is not complete.
--   p_now    the caller's clock
--   returns  [yyyymm], earliest first, at most 24
create or replace function worker.usage_due_periods(p_now timestamptz) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(period order by period), '[]')
    from (select to_char(month, 'YYYYMM')::int as period
            from generate_series(
                   coalesce((select worker.usage_period_start(max(period)) + interval '1 month'
                               from worker.usage_periods where state = 'closed'),
                            (select date_trunc('month', min(installed_at)) from worker.installations)),
                   date_trunc('month', p_now) - interval '1 month', interval '1 month') as month
          union
          select period from worker.usage_periods
           where state = 'closing' or (state = 'closed' and sealed_at is null)
           order by period
           limit 24) p
$$;
revoke all on function worker.usage_due_periods from public, anon, authenticated;
grant execute on function worker.usage_due_periods to service_role;

-- Months that are closing or closed, newest first. A month that is not listed is open.
--   p_before  only months before it; null = from the newest
--   p_limit   1 .. 120
--   returns  [{period, state, closingAt, graceUntil, checkedAt, heldBy, shardsPassed, shardsNoted, closedAt, closedBy,
--            reason, despite, sealedAt, tokens, events, tenants, checksum}]; amounts as text
create or replace function worker.usage_read_periods(p_before int default null, p_limit int default 24) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(jsonb_build_object('period', p.period, 'state', p.state, 'closingAt', p.closing_at,
           'graceUntil', p.grace_until, 'checkedAt', p.checked_at, 'heldBy', p.held_by, 'shardsPassed', b.passed,
           'shardsNoted', b.noted, 'closedAt', p.closed_at, 'closedBy', p.closed_by, 'reason', p.reason,
           'despite', p.despite, 'sealedAt', p.sealed_at, 'tokens', p.tokens::text, 'events', p.events::text,
           'tenants', p.tenants::text, 'checksum', p.checksum) order by p.period desc), '[]')
    from (select * from worker.usage_periods
           where p_before is null or period < p_before
           order by period desc
           limit least(greatest(p_limit, 1), 120)) p
   cross join lateral (
      select count(*) filter (where inc is not null) as noted, count(passed_at) as passed
        from worker.usage_period_shards where period = p.period) b
$$;
revoke all on function worker.usage_read_periods from public, anon, authenticated;
grant execute on function worker.usage_read_periods to service_role;
