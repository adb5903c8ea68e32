-- Why: cursor, events, ledger and totals may only move together: one call, one transaction.
-- Lock: new functions; the first daily partitions, on an empty table.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: does not call these functions.

-- The cursor of one shard; its row is made when it is missing.
--   returns  {shard, inc, n, cum, count, anchor, fence, forks}; numbers of the log and the fence as text
create or replace function worker.usage_shard_state(p_shard int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  insert into worker.usage_shards (shard) values (p_shard) on conflict on constraint usage_shards_pkey do nothing;
  select jsonb_build_object('shard', s.shard, 'inc', s.inc, 'n', s.n::text, 'cum', s.cum::text,
           'count', s.count::text, 'anchor', s.anchor, 'fence', s.fence::text, 'forks', s.forks)
    from worker.usage_shards s
   where s.shard = p_shard
$$;
revoke all on function worker.usage_shard_state from public, anon, authenticated;
grant execute on function worker.usage_shard_state to service_role;

-- Newest entry of a shard that was applied longer ago than the retention and is still to be trimmed, or null.
-- Only batches of the present visit of the lineage count: after a fork other entries may stand at the same numbers.
create or replace function worker.usage_trim_point(p_shard worker.usage_shards, p_retain_hours int) returns bigint
language sql stable security invoker set search_path = '' as $$
  select b.to_n
    from (select to_n from worker.usage_batches
           where shard = p_shard.shard and fork = p_shard.forks and to_n > 0 -- not what people booked
             and applied_at < now() - make_interval(hours => p_retain_hours)
           order by applied_at desc
           limit 1) b
   where b.to_n > p_shard.trimmed_n
$$;
revoke all on function worker.usage_trim_point from public, anon, authenticated;
grant execute on function worker.usage_trim_point to service_role;

-- The cursor of every shard that was ever touched, in order of shard.
--   p_retain_hours  entries applied longer ago may be trimmed
--   returns  [{shard, inc, n, cum, count, trim}]; trim = newest such entry that was not trimmed yet, or null
create or replace function worker.usage_read_cursors(p_retain_hours int default 48) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('shard', s.shard, 'inc', s.inc, 'n', s.n::text, 'cum', s.cum::text,
           'count', s.count::text, 'trim', worker.usage_trim_point(s, p_retain_hours)::text) order by s.shard), '[]')
    from worker.usage_shards s
$$;
revoke all on function worker.usage_read_cursors from public, anon, authenticated;
grant execute on function worker.usage_read_cursors to service_role;

-- Remembers that Redis forgot the entries before p_n. Safe to repeat; never goes back.
--   returns  {status: ok | stale}; stale = the lineage is another one by now
create or replace function worker.usage_mark_trimmed(p_shard int, p_inc text, p_n bigint) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.usage_shards
     set trimmed_n = greatest(trimmed_n, least(p_n, n)), updated_at = now()
   where shard = p_shard and inc = p_inc;
  return jsonb_build_object('status', case when found then 'ok' else 'stale' end);
end $$;
revoke all on function worker.usage_mark_trimmed from public, anon, authenticated;
grant execute on function worker.usage_mark_trimmed to service_role;

-- Takes a shard for a while. Saves wasted reads; correctness is the compare-and-swap in usage_apply_batch. The owner
-- of a lease may take it again; each lease gets a new fence, and whoever holds an older one can no longer apply.
--   p_ttl_ms  1 .. 3,600,000
--   returns   {status: ok, fence, shard, inc, n, cum, count, anchor} | {status: busy, until}
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_lease_shard(p_shard int, p_owner text, p_ttl_ms int default 300000)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if p_ttl_ms is null or p_ttl_ms not between 1 and 3600000 or coalesce(p_owner, '') = '' then
    raise exception 'usage_argument_invalid: p_owner must not be empty, p_ttl_ms must be 1 to 3600000'
      using errcode = 'UL001';
  end if;
  insert into worker.usage_shards (shard) values (p_shard) on conflict on constraint usage_shards_pkey do nothing;
  update worker.usage_shards
     set fence = fence + 1, lease_owner = p_owner, lease_until = v_now + p_ttl_ms * interval '1 millisecond'
   where shard = p_shard and (lease_until is null or lease_until <= v_now or lease_owner = p_owner);
  if not found then
    return jsonb_build_object('status', 'busy',
      'until', (select lease_until from worker.usage_shards where shard = p_shard));
  end if;
  return worker.usage_shard_state(p_shard) || '{"status": "ok"}';
end $$;
revoke all on function worker.usage_lease_shard from public, anon, authenticated;
grant execute on function worker.usage_lease_shard to service_role;

-- Gives a lease back. Safe to repeat; a lease that somebody else took meanwhile stays theirs.
--   returns  {status: ok | stale}
create or replace function worker.usage_release_shard(p_shard int, p_fence bigint) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.usage_shards set lease_owner = null, lease_until = null where shard = p_shard and fence = p_fence;
  return jsonb_build_object('status', case when found then 'ok' else 'stale' end);
end $$;
revoke all on function worker.usage_release_shard from public, anon, authenticated;
grant execute on function worker.usage_release_shard to service_role;

-- Remembers, outside Redis, how far each log was. An observation only moves forward within its lineage.
--   p_observations  [{shard, inc, n, cum, count}], at most 4096; elements without a lineage are skipped
--   returns         rows written
--   raises          UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_observe_shards(p_observations jsonb) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_written int;
begin
  if jsonb_array_length(p_observations) > 4096 then
    raise exception 'usage_argument_invalid: more than 4096 observations' using errcode = 'UL001';
  end if;
  insert into worker.usage_observations as o (shard, inc, n, cum, count)
  select distinct on (shard, inc) shard, inc, n, cum, count
    from jsonb_to_recordset(p_observations) as e (shard int, inc text, n bigint, cum numeric, count bigint)
   where inc <> ''
   order by shard, inc, n desc
  on conflict on constraint usage_observations_pkey do update
    set n = excluded.n, cum = excluded.cum, count = excluded.count, observed_at = now()
    where excluded.n > o.n;
  get diagnostics v_written = row_count;
  return v_written;
end $$;
revoke all on function worker.usage_observe_shards from public, anon, authenticated;
grant execute on function worker.usage_observe_shards to service_role;

-- Redis is not the log the cursor points into. Ends the lineage, writes down what the observer knows to be lost, and
-- points the cursor at the start of the new lineage: everything Redis still holds is read again, and event ids absorb
-- the overlap. Compare-and-swap on the lineage.
--   p_cause                            first | lineage_changed | redis_flushed | redis_rewound | anchor_mismatch
--   p_surviving_n, p_surviving_cum     how far the old lineage survived in Redis; 0, 0 after a flush
--   returns  {status: ok | stale, inc, n}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_fork_shard(p_shard int, p_old_inc text, p_new_inc text, p_cause text,
  p_surviving_n bigint default 0, p_surviving_cum numeric default 0) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  s worker.usage_shards;
  v_safe_n bigint;
  v_safe_cum numeric;
  v_safe_count bigint;
begin
  if coalesce(p_new_inc, '') = '' or p_new_inc = p_old_inc then
    raise exception 'usage_argument_invalid: p_new_inc must be another lineage' using errcode = 'UL001';
  end if;
  select * into s from worker.usage_shards where shard = p_shard for update;
  if s.inc is distinct from p_old_inc then
    return jsonb_build_object('status', 'stale', 'inc', coalesce(s.inc, ''), 'n', coalesce(s.n, 0)::text);
  end if;
  -- A lineage of which nothing was applied yet is known as far as it was when it was adopted.
  if s.cum is null then
    s.n := s.base_n;
    s.cum := s.base_cum;
    s.count := null;
  end if;
  if s.inc <> '' then
    insert into worker.usage_lineages (shard, fork, inc, last_n, last_cum, last_count, cause)
    values (p_shard, s.forks, s.inc, s.n, s.cum, s.count, p_cause);
  end if;

  -- Safe is what was applied or survived, whichever is further. When nobody read this shard before, every log but the
  -- new one is lost from its start.
  v_safe_n := greatest(s.n, p_surviving_n);
  v_safe_cum := case when s.n >= p_surviving_n then s.cum else p_surviving_cum end;
  v_safe_count := case when v_safe_n = 0 then 0 when s.n >= p_surviving_n then s.count end;
  insert into worker.usage_gaps as g (shard, inc, from_n, to_n, tokens_lost, entries_lost, cause)
  select p_shard, o.inc, v_safe_n + 1, o.n, o.cum - v_safe_cum, o.count - v_safe_count, 'redis_rewind'
    from worker.usage_observations o
   where o.shard = p_shard and o.inc <> p_new_inc and (o.inc = s.inc or s.inc = '')
     and o.n > v_safe_n and (o.cum <> v_safe_cum or o.count <> v_safe_count)
  on conflict (shard, inc, from_n) where cause = 'redis_rewind' do update
    set to_n = excluded.to_n, tokens_lost = excluded.tokens_lost, entries_lost = excluded.entries_lost,
        updated_at = now()
    where excluded.to_n > g.to_n;
  delete from worker.usage_observations
   where shard = p_shard and inc <> p_new_inc and (inc = s.inc or s.inc = '');

  update worker.usage_shards
     set inc = p_new_inc, n = 0, cum = null, count = null, anchor = null, trimmed_n = 0, forks = forks + 1,
         base_n = least(s.n, p_surviving_n),
         base_cum = case when s.n <= p_surviving_n then s.cum else p_surviving_cum end,
         updated_at = now()
   where shard = p_shard;
  return jsonb_build_object('status', 'ok', 'inc', p_new_inc, 'n', '0');
end $$;
revoke all on function worker.usage_fork_shard from public, anon, authenticated;
grant execute on function worker.usage_fork_shard to service_role;

-- The month in which a use is billed whose own month is p_period: itself, or the first later one that is not closed.
-- Never a closed month, and never an earlier one that happens to be open.
create or replace function worker.usage_next_open_period(p_period int, p_closed int[]) returns int
language plpgsql immutable security invoker set search_path = '' as $$
declare
  v_period int := p_period;
begin
  while v_period = any (p_closed) loop
    v_period := case when v_period % 100 = 12 then v_period + 89 else v_period + 1 end;
  end loop;
  return v_period;
end $$;
revoke all on function worker.usage_next_open_period from public, anon, authenticated;
grant execute on function worker.usage_next_open_period to service_role;

-- Part of usage_apply_batch: sets aside records whose event is booked with another amount. The first amount wins; the
-- same entry read again changes nothing, because its raw text is the same.
--   returns  records that conflict, whether or not they were set aside before
create or replace function worker.usage_quarantine_conflicts(p_shard int, p_inc text, p_uid uuid[], p_tenant text[],
  p_period int[], p_day int[], p_tokens bigint[]) returns int
language plpgsql volatile security invoker
set search_path = '' set enable_hashjoin = off set enable_mergejoin = off as $$ -- the keys of a batch, not whole days
declare
  v_conflicting int;
begin
  with conflict as (
    select u.*, e.tokens as booked
      from unnest(p_uid, p_tenant, p_period, p_day, p_tokens) as u (uid, tenant, period, day, tokens)
      join worker.usage_events e on e.day = date '1970-01-01' + u.day and e.uid = u.uid and e.tokens <> u.tokens),
  quarantined as (
    insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error)
    select p_shard, p_inc, 0, tenant, period, tokens,
           json_build_object('uid', uid, 'day', day, 'tokens', tokens::text, 'booked', booked::text)::text,
           'duplicate_with_other_amount'
      from conflict
    on conflict (shard, n, md5(raw)) do nothing)
  select count(*) into v_conflicting from conflict;
  return v_conflicting;
end $$;
revoke all on function worker.usage_quarantine_conflicts from public, anon, authenticated;
grant execute on function worker.usage_quarantine_conflicts to service_role;

-- Part of usage_apply_batch: a producer says how far it was acknowledged, Redis says how far that survived.
--   p_markers  [{oi: lost lineage, ln, lc: acknowledged n and running sum, cn, cc: surviving n and running sum}]
create or replace function worker.usage_open_rewind_gaps(p_shard int, p_markers jsonb) returns void
language sql volatile security invoker set search_path = '' as $$
  insert into worker.usage_gaps as g (shard, inc, from_n, to_n, tokens_lost, cause)
  select distinct on (m.oi, safe.n) p_shard, m.oi, safe.n + 1, m.ln, m.lc - safe.cum, 'redis_rewind'
    from jsonb_to_recordset(p_markers) as m (oi text, ln bigint, lc numeric, cn bigint, cc numeric)
    left join lateral (
      select last_n, last_cum from worker.usage_lineages
       where shard = p_shard and inc = m.oi
       order by last_n desc
       limit 1) applied on true
   cross join lateral (
      select greatest(m.cn, applied.last_n) as n,
             case when applied.last_n >= m.cn then applied.last_cum else m.cc end as cum) safe
   where m.ln > safe.n
   order by m.oi, safe.n, m.ln desc
  on conflict (shard, inc, from_n) where cause = 'redis_rewind' do update
    set to_n = excluded.to_n, tokens_lost = excluded.tokens_lost, entries_lost = null, updated_at = now()
    where excluded.to_n > g.to_n
$$;
revoke all on function worker.usage_open_rewind_gaps from public, anon, authenticated;
grant execute on function worker.usage_open_rewind_gaps to service_role;

-- Part of usage_apply_batch: replayed records close the gap of the lineage they were lost with. Only what this batch
-- really inserted counts.
--   p_replay  [{uid, day: days since 1970-01-01, oi: lost lineage}]
create or replace function worker.usage_recover_gaps(p_shard int, p_batch bigint, p_replay jsonb) returns void
language sql volatile security invoker
set search_path = '' set enable_hashjoin = off set enable_mergejoin = off as $$ -- the keys of a batch, not whole days
  with replayed as (
    select distinct on (uid, day) uid, date '1970-01-01' + day as day, oi
      from jsonb_to_recordset(p_replay) as r (uid uuid, day int, oi text)),
  recovered as (
    select r.oi, sum(e.tokens) as tokens, count(*) as entries
      from replayed r
      join worker.usage_events e on e.day = r.day and e.uid = r.uid
     where e.batch_id = p_batch
     group by r.oi)
  update worker.usage_gaps g
     set recovered = g.recovered + r.tokens, entries_recovered = g.entries_recovered + r.entries, updated_at = now()
    from recovered r
   where g.id = (
     select id from worker.usage_gaps
      where shard = p_shard and inc = r.oi and cause = 'redis_rewind'
      order by to_n desc, id
      limit 1)
$$;
revoke all on function worker.usage_recover_gaps from public, anon, authenticated;
grant execute on function worker.usage_recover_gaps to service_role;

-- Applies one batch of one shard: events, ledger, totals, findings and the cursor move in one transaction. Repeating a
-- call that was applied answers stale; stale and fenced change nothing and are not errors.
--   p_fence          fence of the lease, or null without a lease
--   p_inc, p_prev_n  where the caller believes the cursor is (compare-and-swap)
--   p_to_n, p_cum, p_count, p_anchor  number, running sum, running count and anchor of the last entry
--   p_uid .. p_dim   one array per column, all of one length; at most 20,000 records. p_day counts from 1970-01-01,
--                    p_dim indexes p_dims from 0
--   p_dims           [[token type, model]]
--   p_bill           month a use asks to be billed in, where that is another one than p_period; null = nowhere
--   p_agent, p_conversation  null when no record has one
--   p_bad            [{n, raw, error, tokens, tenant, period}]; tokens only when the entry continues the running sum
--   p_markers        [{oi, ln, lc, cn, cc}]        p_replay  [{uid, day, oi}]
--   p_retain_hours   how long Redis keeps applied entries
--   returns  {status: applied, batch, applied, dup, conflicting, bad, tokens, n, trim}
--          | {status: stale | fenced, inc, n}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_apply_batch(p_shard int, p_fence bigint, p_inc text, p_prev_n bigint,
  p_to_n bigint, p_cum numeric, p_count bigint, p_anchor text, p_uid uuid[], p_tenant text[], p_period int[],
  p_day int[], p_tokens bigint[], p_dim int[], p_dims jsonb default '[]', p_bill int[] default null,
  p_agent text[] default null, p_conversation text[] default null, p_bad jsonb default '[]',
  p_markers jsonb default '[]', p_replay jsonb default '[]', p_worker text default null, p_run uuid default null,
  p_retain_hours int default 48) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
declare
  s worker.usage_shards;
  v_seen int := coalesce(cardinality(p_uid), 0);
  v_bad int := jsonb_array_length(p_bad);
  v_types text[];
  v_models text[];
  v_closed int[];
  v_batch bigint;
  v_applied int;
  v_conflicting int := 0;
  v_tokens numeric;
begin
  if p_to_n <= p_prev_n
     or greatest(v_seen, v_bad, jsonb_array_length(p_markers), jsonb_array_length(p_replay)) > 20000
     or array[cardinality(p_tenant), cardinality(p_period), cardinality(p_day), cardinality(p_tokens),
          cardinality(p_dim), coalesce(cardinality(p_bill), v_seen), coalesce(cardinality(p_agent), v_seen),
          coalesce(cardinality(p_conversation), v_seen)] <> array_fill(v_seen, array[8]) then
    raise exception 'usage_argument_invalid: columns of one length and at most 20000 entries that end after p_prev_n'
      using errcode = 'UL001';
  end if;

  select * into s from worker.usage_shards where shard = p_shard for update; -- one batch of a shard at a time
  if p_fence < s.fence then
    return jsonb_build_object('status', 'fenced', 'inc', s.inc, 'n', s.n::text);
  end if;
  if not found or s.inc <> p_inc or s.n <> p_prev_n then
    return jsonb_build_object('status', 'stale', 'inc', coalesce(s.inc, ''), 'n', coalesce(s.n, 0)::text);
  end if;

  insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens,
    fence, worker, run_id)
  values (p_shard, s.forks, p_inc, p_prev_n + 1, p_to_n, v_seen, 0, 0, 0, v_bad, 0, p_fence, p_worker, p_run)
  returning batch_id into v_batch;
  -- Read after the shard is locked: whoever closes a month locks the shards too.
  select coalesce(array_agg(period), '{}') into v_closed from worker.usage_periods where state = 'closed';
  select array_agg(d ->> 0 order by i), array_agg(d ->> 1 order by i) into v_types, v_models
    from jsonb_array_elements(p_dims) with ordinality as dims (d, i);

  with entry as (
    select *
      from unnest(p_uid, p_tenant, p_period, p_day, p_tokens, p_dim, p_agent, p_conversation)
        as e (uid, tenant, period, day, tokens, dim, agent, conversation)),
  fresh as (
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, agent_id,
      conversation_id)
    select date '1970-01-01' + day, period, tokens, v_batch, uid, tenant, v_types[dim + 1], v_models[dim + 1],
           nullif(agent, ''), nullif(conversation, '')
      from entry
    on conflict on constraint usage_events_pkey do nothing
    returning day, uid, tenant, period, token_type, model, tokens),
  elsewhere as ( -- one row per event, also when it was sent twice
    select distinct on (day, uid) date '1970-01-01' + day as day, uid, bill
      from unnest(p_uid, p_day, p_period, p_bill) with ordinality as e (uid, day, period, bill, i)
     where p_bill is not null and bill <> period
     order by day, uid, i),
  sums as (
    select tenant, period, bill, token_type, model, sum(tokens) as tokens, count(*) as events
      from fresh left join elsewhere using (day, uid)
     group by tenant, period, bill, token_type, model),
  booked as (
    select tenant, period as usage_period, token_type, model, tokens, events,
           case when wanted = any (v_closed) then worker.usage_next_open_period(wanted, v_closed) else wanted end
             as period,
           case when wanted = any (v_closed) then 'late' when bill is not null then 'future' else 'usage' end as reason
      from (select *, coalesce(bill, period) as wanted from sums) s),
  ledger as (
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason)
    select v_batch, tenant, period, usage_period, token_type, model, tokens, events, reason from booked),
  totals as (
    insert into worker.usage_totals as t (tenant, period, tokens, events, late, future, shard)
    select tenant, period, sum(tokens), sum(events), coalesce(sum(tokens) filter (where reason = 'late'), 0),
           coalesce(sum(tokens) filter (where reason = 'future'), 0), p_shard
      from booked
     group by tenant, period
     order by tenant, period
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, events = t.events + excluded.events, late = t.late + excluded.late,
          future = t.future + excluded.future, updated_at = now())
  select coalesce(sum(events), 0), coalesce(sum(tokens), 0) into v_applied, v_tokens from booked;

  if v_applied < v_seen then
    v_conflicting := worker.usage_quarantine_conflicts(p_shard, p_inc, p_uid, p_tenant, p_period, p_day, p_tokens);
  end if;
  insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error)
  select p_shard, p_inc, n, tenant, period, tokens, raw, error
    from jsonb_to_recordset(p_bad)
      as b (n bigint, tenant text, period int, tokens numeric, raw text, error text)
  on conflict (shard, n, md5(raw)) do nothing;

  -- Sum and count must have grown by exactly what this batch carries. An empty difference of amounts with a missing
  -- entry is a loss too.
  insert into worker.usage_gaps (shard, inc, from_n, to_n, tokens_lost, entries_lost, cause)
  select p_shard, p_inc, p_prev_n + 1, p_to_n, coalesce(missing.tokens, 0), missing.entries, 'missing_entries'
    from (select p_cum - s.cum - coalesce(sum(carried.tokens), 0) as tokens,
                 p_count - s.count - count(carried.tokens) as entries
            from (select unnest(p_tokens)::numeric
                  union all
                  select (b ->> 'tokens')::numeric from jsonb_array_elements(p_bad) b) carried (tokens)) missing
   where missing.tokens <> 0 or missing.entries <> 0;
  if jsonb_array_length(p_markers) > 0 then
    perform worker.usage_open_rewind_gaps(p_shard, p_markers);
  end if;
  if jsonb_array_length(p_replay) > 0 then
    perform worker.usage_recover_gaps(p_shard, v_batch, p_replay);
  end if;

  update worker.usage_shards
     set n = p_to_n, cum = p_cum, count = p_count, anchor = p_anchor, updated_at = now()
   where shard = p_shard
  returning * into s;
  update worker.usage_batches
     set applied = v_applied, dup = v_seen - v_applied, conflicting = v_conflicting, tokens = v_tokens
   where batch_id = v_batch;
  return jsonb_build_object('status', 'applied', 'batch', v_batch::text, 'applied', v_applied,
    'dup', v_seen - v_applied, 'conflicting', v_conflicting, 'bad', v_bad, 'tokens', v_tokens::text,
    'n', p_to_n::text, 'trim', worker.usage_trim_point(s, p_retain_hours)::text);
end $$;
revoke all on function worker.usage_apply_batch from public, anon, authenticated;
grant execute on function worker.usage_apply_batch to service_role;

-- What the ledger holds for a tenant and month; zeros when it knows neither.
--   returns  {tenant, period, tokens, used, events, late, adjusted, quarantined, updatedAt,
--            breakdown: [{type, model, tokens, events}]}; amounts and events as text
--            tokens = billed in this month, used = happened in it, late = part of tokens that happened in another,
--            adjusted = part of tokens that are corrections, quarantined = entries that wait for a decision
create or replace function worker.usage_read_total(p_tenant text, p_period int) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with billed as (
    select coalesce(token_type, 'unknown') as type, coalesce(model, '') as model, sum(tokens) as tokens,
           sum(events) as events, coalesce(sum(tokens) filter (where usage_period <> period), 0) as late,
           coalesce(sum(tokens) filter (where reason like 'adjust:%'), 0) as adjusted
      from worker.usage_ledger
     where period = p_period and tenant = p_tenant
     group by 1, 2),
  moved as (
    select coalesce(sum(tokens), 0) as tokens
      from worker.usage_ledger
     where usage_period = p_period and usage_period <> period and tenant = p_tenant)
  select jsonb_build_object(
      'tenant', p_tenant, 'period', p_period,
      'tokens', coalesce(t.tokens, 0)::text, 'events', coalesce(t.events, 0)::text,
      'used', (coalesce(t.tokens, 0) - b.late + moved.tokens)::text,
      'late', b.late::text, 'adjusted', b.adjusted::text, 'updatedAt', t.updated_at, 'breakdown', b.breakdown,
      'quarantined', (select count(*) from worker.usage_quarantine
                       where tenant = p_tenant and period = p_period and resolved_at is null))
    from moved
   cross join (select coalesce(sum(late), 0) as late, coalesce(sum(adjusted), 0) as adjusted,
                      coalesce(jsonb_agg(jsonb_build_object('type', type, 'model', model, 'tokens', tokens::text,
                        'events', events::text) order by type, model), '[]') as breakdown
                 from billed) b
    left join worker.usage_totals t on t.tenant = p_tenant and t.period = p_period
$$;
revoke all on function worker.usage_read_total from public, anon, authenticated;
grant execute on function worker.usage_read_total to service_role;

-- Makes the daily partitions of the events for p_from .. p_to; days that have one stay as they are. Events that
-- arrived before their partition sit in the default one and are moved, because a partition cannot be added while the
-- default one holds its rows. Definer: the service role may not create tables.
-- Lock: only when a day is missing, applying waits until it is made, for milliseconds; safe to run concurrently.
--   p_from, p_to  both included, at most 400 days
--   returns       partitions made
--   raises        UL001 usage_argument_invalid (permanent), 55P03 when applying did not pause within 2 s (transient)
create or replace function worker.usage_ensure_days(p_from date, p_to date) returns int
language plpgsql volatile security definer
set search_path = '' set lock_timeout = '2s' set statement_timeout = '60s' as $$
declare
  v_missing date[];
  v_day date;
  v_part text;
begin
  if p_from is null or p_to is null or p_to - p_from not between 0 and 399 then
    raise exception 'usage_argument_invalid: p_from to p_to must be 1 to 400 days' using errcode = 'UL001';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('worker.usage_ensure_days', 0));
  select coalesce(array_agg(day), '{}') into v_missing
    from (select p_from + i as day from generate_series(0, p_to - p_from) as i) days
   where to_regclass(format('worker.usage_events_%s', to_char(day, 'YYYYMMDD'))) is null;
  if v_missing = '{}' then
    return 0;
  end if;
  -- Otherwise an event could be routed to the default partition between the move and the attachment.
  lock table worker.usage_events in share row exclusive mode;
  foreach v_day in array v_missing loop
    v_part := format('usage_events_%s', to_char(v_day, 'YYYYMMDD'));
    execute format('create table worker.%I (like worker.usage_events including all)', v_part);
    execute format('alter table worker.%I enable row level security', v_part);
    execute format('with moved as (delete from worker.usage_events_default where day = %L returning *)
                    insert into worker.%I select * from moved', v_day, v_part);
    execute format('alter table worker.usage_events attach partition worker.%I for values from (%L) to (%L)',
                   v_part, v_day, v_day + 1);
  end loop;
  return cardinality(v_missing);
end $$;
revoke all on function worker.usage_ensure_days from public, anon, authenticated;
grant execute on function worker.usage_ensure_days to service_role;

select worker.usage_ensure_days(current_date - 40, current_date + 40);
