-- Why: producers that do not use the log yet: a set of uses whose database write failed, a function that books directly,
--   and cumulative counters that count the same uses again.
-- Lock: new tables and functions. Functions of the two public names that are not ours are renamed, for an instant.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: does not know these tables. Producers call the public names as before; what answered them so far keeps its
--   text under the name with _before_worker at the end, and is not called any more.

do $$
declare
  f record;
begin
  for f in
    select p.oid::regprocedure as signature, p.proname from pg_proc p
     where p.pronamespace = 'public'::regnamespace
       and p.proname in ('increment_token_usage', 'increment_embedding_token_usage')
       and p.prosrc not like '%worker.usage_legacy_book_direct%'
  loop
    execute format('alter function %s rename to %I', f.signature, f.proname || '_before_worker');
  end loop;
end $$;

-- What is known about the producers that do not use the log: their runs, their counters, and what does not add up.

-- One drain of the legacy lanes. Its numbers grow in the transactions that book, so that a crash cannot miscount them.
create table if not exists worker.usage_legacy_runs (
  run_id uuid not null,
  status text not null default 'running',
  tracking boolean not null,               -- was usage tracking switched on
  booked bigint not null default 0,        -- records of the pending set
  duplicates bigint not null default 0,    -- records that were booked before
  set_aside bigint not null default 0,
  tokens numeric not null default 0,       -- of the booked records
  counters text not null default 'waiting',
  grown numeric not null default 0,        -- of the counters since the run before
  counter_tokens numeric not null default 0, -- part of grown that was booked
  resets bigint not null default 0,        -- counters that fell or jumped
  drifts bigint not null default 0,        -- tenants whose sides moved apart or together
  error_code text,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint usage_legacy_runs_pkey primary key (run_id),
  constraint usage_legacy_runs_status_check check (status in ('running', 'succeeded', 'failed')),
  constraint usage_legacy_runs_counters_check check (counters in ('waiting', 'off', 'compared', 'cluster')),
  constraint usage_legacy_runs_finished_check check ((finished_at is not null) = (status <> 'running'))
);
create index if not exists usage_legacy_runs_started_at_idx on worker.usage_legacy_runs (started_at desc);
alter table worker.usage_legacy_runs enable row level security;
grant select, insert, update, delete on worker.usage_legacy_runs to service_role;

-- Settings under which counters are read. The first complete reading under a scope only remembers the values.
create table if not exists worker.usage_legacy_scopes (
  scope text collate "C" not null,
  based_at timestamptz not null default now(), -- end of that first reading
  constraint usage_legacy_scopes_pkey primary key (scope)
);
alter table worker.usage_legacy_scopes enable row level security;
grant select, insert, update, delete on worker.usage_legacy_scopes to service_role;

-- The last value of each cumulative counter: compare-and-swap on (seen, generation).
create table if not exists worker.usage_legacy_counters (
  key text collate "C" not null,
  scope text collate "C" not null,
  tenant text collate "C" not null,
  seen numeric not null,
  generation int not null default 0,       -- how often it fell, jumped or was read under another scope
  first_seen_at timestamptz not null default now(),
  moved_at timestamptz not null default now(),
  constraint usage_legacy_counters_pkey primary key (key)
) with (fillfactor = 80);
create index if not exists usage_legacy_counters_tenant_idx on worker.usage_legacy_counters (tenant, key);
alter table worker.usage_legacy_counters enable row level security;
grant select, insert, update, delete on worker.usage_legacy_counters to service_role;

-- Both sides of each tenant since its counters are known: what the lanes booked and what the counters grew by. The
-- compared_ columns say how far they were compared.
create table if not exists worker.usage_legacy_tenants (
  tenant text collate "C" not null,
  shard int not null,
  direct numeric not null default 0,
  pending numeric not null default 0,
  counter numeric not null default 0,      -- booked by its counters, for a tenant that has nothing else
  grown numeric not null default 0,
  has_counters boolean not null default false,
  met_in uuid,                             -- run that met its first counter
  compared_direct numeric not null default 0,
  compared_pending numeric not null default 0,
  compared_grown numeric not null default 0,
  apart numeric not null default 0,        -- counted and not booked; negative: booked and not counted
  cause text,                              -- of what is apart
  compared_at timestamptz,
  constraint usage_legacy_tenants_pkey primary key (tenant)
) with (fillfactor = 70);
alter table worker.usage_legacy_tenants enable row level security;
grant select, insert, update, delete on worker.usage_legacy_tenants to service_role;

-- What a run found. drift: the sides of a tenant moved apart, or together again. gap: a counter fell (its growth is
-- unknown) or jumped, and nothing was booked for it. Every one is counted in its run, the first 1000 are listed.
create table if not exists worker.usage_legacy_findings (
  id bigint generated always as identity,
  run_id uuid,                             -- null: a person
  kind text not null,
  tenant text collate "C" not null,
  cause text not null,
  tokens numeric not null,                 -- drift: counted minus booked since the comparison before. gap: the fall or jump
  evidence jsonb not null,
  detected_at timestamptz not null default now(),
  constraint usage_legacy_findings_pkey primary key (id),
  constraint usage_legacy_findings_kind_check check (kind in ('drift', 'gap'))
);
create index if not exists usage_legacy_findings_run_id_idx on worker.usage_legacy_findings (run_id, kind);
create index if not exists usage_legacy_findings_tenant_idx on worker.usage_legacy_findings (tenant, id desc);
alter table worker.usage_legacy_findings enable row level security;
grant select, insert, update, delete on worker.usage_legacy_findings to service_role;

-- The shard of a tenant: CRC-32 (IEEE) of its UTF-8 bytes, modulo 256. The same number as every producer computes.
create or replace function worker.usage_shard_of(p_tenant text) returns int
language plpgsql immutable strict parallel safe security invoker set search_path = '' as $$
declare
  -- The CRC of each half byte: two steps per byte instead of eight.
  v_table constant bigint[] := array[0, 498536548, 997073096, 651767980, 1994146192, 1802195444, 1303535960, 1342533948,
    3988292384, 4027552580, 3604390888, 3412177804, 2607071920, 2262029012, 2685067896, 3183342108];
  v_bytes bytea := convert_to(p_tenant, 'UTF8');
  v_crc bigint := 4294967295;
begin
  for i in 0 .. length(v_bytes) - 1 loop
    v_crc := v_crc # get_byte(v_bytes, i);
    v_crc := (v_crc >> 4) # v_table[(v_crc & 15) + 1];
    v_crc := (v_crc >> 4) # v_table[(v_crc & 15) + 1];
  end loop;
  return (v_crc # 4294967295) % 256;
end $$;
revoke all on function worker.usage_shard_of from public, anon, authenticated;
grant execute on function worker.usage_shard_of to service_role;

-- Locks shards in order until the transaction ends; those that were never read are made.
create or replace function worker.usage_legacy_lock_shards(p_shard int[]) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  insert into worker.usage_shards (shard)
  select distinct shard from unnest(p_shard) as e (shard) order by shard
  on conflict on constraint usage_shards_pkey do nothing;
  perform from worker.usage_shards where shard = any (p_shard) order by shard for update;
end $$;
revoke all on function worker.usage_legacy_lock_shards from public, anon, authenticated;
grant execute on function worker.usage_legacy_lock_shards to service_role;

-- Books uses that came through a legacy lane, with the same events, ledger and totals as the log, in one transaction.
-- Locks the shards of its tenants in order, as everything that books does: no deadlocks, and a tenant waits for its own
-- shard only. Repeating a call books nothing.
--   p_lane           legacy_pending | legacy_direct | legacy_counter
--   p_uid .. p_note  one array per column, all of one length; at most 5000 uses. p_day counts from 1970-01-01
--   p_bill           month a use asks to be billed in where that is another one than p_period; null = nowhere
--   p_note           evidence for the ledger row; null = none
--   returns  {applied, dup, tokens}; tokens as text
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_book(p_lane text, p_uid uuid[], p_tenant text[], p_shard int[],
  p_period int[], p_day int[], p_tokens numeric[], p_type text[], p_model text[], p_bill int[] default null,
  p_agent text[] default null, p_conversation text[] default null, p_note jsonb[] default null) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off
set enable_nestloop = off set statement_timeout = '20s' as $$ -- the planner does not know how long the arrays are
declare
  v_seen int := coalesce(cardinality(p_uid), 0);
  -- Not a visit of a lineage. The batches of a lane are one row for each shard and day of booking.
  v_fork int := case p_lane when 'legacy_pending' then -1 when 'legacy_direct' then -2 when 'legacy_counter' then -3 end;
  v_today int := (now() at time zone 'UTC')::date - date '1970-01-01';
  v_closed int[];
  v_shards int[];
  v_batches bigint[];
  v_applied bigint;
  v_tokens numeric;
begin
  if v_fork is null or v_seen > 5000
     or array[coalesce(cardinality(p_tenant), 0), coalesce(cardinality(p_shard), 0), coalesce(cardinality(p_period), 0),
          coalesce(cardinality(p_day), 0), coalesce(cardinality(p_tokens), 0), coalesce(cardinality(p_type), 0),
          coalesce(cardinality(p_model), 0), coalesce(cardinality(p_bill), v_seen),
          coalesce(cardinality(p_agent), v_seen), coalesce(cardinality(p_conversation), v_seen),
          coalesce(cardinality(p_note), v_seen)] <> array_fill(v_seen, array[11]) then
    raise exception 'usage_argument_invalid: a legacy lane and columns of one length and at most 5000 uses'
      using errcode = 'UL001';
  end if;
  if v_seen = 0 then
    return jsonb_build_object('applied', 0, 'dup', 0, 'tokens', '0');
  end if;
  perform worker.usage_legacy_lock_shards(p_shard);
  insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens, lane)
  select distinct shard, v_fork, p_lane, v_today, v_today, 0, 0, 0, 0, 0, 0, p_lane from unnest(p_shard) as e (shard)
  on conflict on constraint usage_batches_position_key do nothing;
  select array_agg(shard), array_agg(batch_id) into v_shards, v_batches
    from worker.usage_batches
   where fork = v_fork and from_n = v_today and shard = any (p_shard);
  -- Read after the shards are locked: whoever closes a month locks them too.
  select coalesce(array_agg(period), '{}') into v_closed from worker.usage_periods where state = 'closed';

  with entry as (
    select *
      from unnest(p_uid, p_tenant, p_shard, p_period, p_day, p_tokens, p_type, p_model, p_agent, p_conversation)
        as e (uid, tenant, shard, period, day, tokens, type, model, agent, conversation)),
  batch as (
    select * from unnest(v_shards, v_batches) as b (shard, batch_id)),
  fresh as (
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, agent_id,
      conversation_id)
    select date '1970-01-01' + day, period, tokens::bigint, batch_id, uid, tenant, type, model, nullif(agent, ''),
           nullif(conversation, '')
      from entry join batch using (shard)
    on conflict on constraint usage_events_pkey do nothing
    returning day, uid, batch_id, tenant, period, token_type as type, model, tokens),
  beside as ( -- one row per event, also when it was sent twice
    select distinct on (day, uid) date '1970-01-01' + day as day, uid, nullif(bill, period) as bill, note
      from unnest(p_uid, p_day, p_period, p_bill, p_note) with ordinality as e (uid, day, period, bill, note, i)
     where p_bill is not null or p_note is not null
     order by day, uid, i),
  sums as (
    select batch_id, tenant, period, bill, type, model, sum(tokens) as tokens, count(*) as events,
           jsonb_agg(note) filter (where note is not null) as note
      from fresh left join beside using (day, uid)
     group by batch_id, tenant, period, bill, type, model),
  booked as (
    select shard, batch_id, tenant, period as usage_period, type, model, tokens, events, note,
           case when wanted = any (v_closed) then worker.usage_next_open_period(wanted, v_closed) else wanted end
             as period,
           case when wanted = any (v_closed) then 'late' when bill is not null then 'future' else 'usage' end as reason
      from (select *, coalesce(bill, period) as wanted from sums) s join batch using (batch_id)),
  ledger as (
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason,
      note, lane)
    select batch_id, tenant, period, usage_period, type, model, tokens, events, reason, note, p_lane from booked),
  totals as (
    insert into worker.usage_totals as t (tenant, period, tokens, events, late, future, legacy, shard)
    select tenant, period, sum(tokens), sum(events), coalesce(sum(tokens) filter (where reason = 'late'), 0),
           coalesce(sum(tokens) filter (where reason = 'future'), 0), sum(tokens), shard
      from booked
     group by tenant, period, shard
     order by tenant, period
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, events = t.events + excluded.events, late = t.late + excluded.late,
          future = t.future + excluded.future, legacy = t.legacy + excluded.legacy, updated_at = now()),
  tenants as (
    insert into worker.usage_legacy_tenants as t (tenant, shard, direct, pending, counter)
    select tenant, shard, case p_lane when 'legacy_direct' then sum(tokens) else 0 end,
           case p_lane when 'legacy_pending' then sum(tokens) else 0 end,
           case p_lane when 'legacy_counter' then sum(tokens) else 0 end
      from booked
     group by tenant, shard
     order by tenant
    on conflict on constraint usage_legacy_tenants_pkey do update
      set direct = t.direct + excluded.direct, pending = t.pending + excluded.pending,
          counter = t.counter + excluded.counter),
  counts as (
    select shard, batch_id, seen, coalesce(events, 0) as events, coalesce(tokens, 0) as tokens
      from (select shard, count(*) as seen from entry group by shard) e
      join batch using (shard)
      left join (select shard, sum(events) as events, sum(tokens) as tokens from booked group by shard) a using (shard)),
  counted as (
    update worker.usage_batches b
       set seen = b.seen + c.seen, applied = b.applied + c.events, dup = b.dup + c.seen - c.events,
           tokens = b.tokens + c.tokens
      from counts c
     where b.batch_id = c.batch_id and b.batch_id = any (v_batches))
  select coalesce(sum(events), 0), coalesce(sum(tokens), 0) into v_applied, v_tokens from booked;
  return jsonb_build_object('applied', v_applied, 'dup', v_seen - v_applied, 'tokens', v_tokens::text);
end $$;
revoke all on function worker.usage_legacy_book from public, anon, authenticated;
grant execute on function worker.usage_legacy_book to service_role;

-- Books one page of the pending set: uses, members set aside and the numbers of the run, in one transaction. Only then
-- may the members be removed. Repeating a call changes nothing but the duplicates.
--   p_uid .. p_conversation  as in usage_legacy_book
--   p_bad    [{raw, error, tenant, period, tokens, shard}], at most 5000
--   returns  {applied, dup, bad, tokens}; bad = members set aside now and not before
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_book_pending(p_run uuid, p_uid uuid[], p_tenant text[], p_shard int[],
  p_period int[], p_day int[], p_tokens numeric[], p_type text[], p_model text[], p_bill int[] default null,
  p_agent text[] default null, p_conversation text[] default null, p_bad jsonb default '[]') returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
declare
  v_booked jsonb;
  v_bad int;
begin
  if jsonb_array_length(p_bad) > 5000 then
    raise exception 'usage_argument_invalid: at most 5000 members set aside' using errcode = 'UL001';
  end if;
  v_booked := worker.usage_legacy_book('legacy_pending', p_uid, p_tenant, p_shard, p_period, p_day, p_tokens, p_type,
    p_model, p_bill, p_agent, p_conversation);
  with quarantined as (
    insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error, lane)
    select distinct on (shard, md5(raw)) shard, 'legacy', 0, tenant, period, tokens, raw, error, 'legacy_pending'
      from jsonb_to_recordset(p_bad)
        as b (shard int, tenant text, period int, tokens numeric, raw text, error text)
     order by shard, md5(raw)
    on conflict (shard, n, md5(raw)) do nothing
    returning 1)
  select count(*) into v_bad from quarantined;
  update worker.usage_legacy_runs
     set booked = booked + (v_booked ->> 'applied')::bigint, duplicates = duplicates + (v_booked ->> 'dup')::bigint,
         set_aside = set_aside + v_bad, tokens = tokens + (v_booked ->> 'tokens')::numeric, updated_at = now()
   where run_id = p_run;
  return v_booked || jsonb_build_object('bad', v_bad);
end $$;
revoke all on function worker.usage_legacy_book_pending from public, anon, authenticated;
grant execute on function worker.usage_legacy_book_pending to service_role;

-- Books one use at once, in the month it is called. There is no request id: every call is a use.
--   p_tokens  0 .. 10^15
--   p_type    llm | embedding
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_book_direct(p_tenant text, p_tokens bigint, p_type text) returns void
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamp := now() at time zone 'UTC';
begin
  if coalesce(length(p_tenant), 0) not between 1 and 200 or p_tenant ~ '[\x01-\x1f\x7f]' then
    raise exception 'usage_argument_invalid: p_tenant_id must have 1 to 200 characters, none of them control characters'
      using errcode = 'UL001';
  end if;
  if coalesce(p_tokens, -1) not between 0 and 1000000000000000 then
    raise exception 'usage_argument_invalid: p_tokens must be a whole number from 0 to 10^15' using errcode = 'UL001';
  end if;
  perform worker.usage_legacy_book('legacy_direct', array[gen_random_uuid()], array[p_tenant],
    array[worker.usage_shard_of(p_tenant)], array[to_char(v_now, 'YYYYMM')::int],
    array[v_now::date - date '1970-01-01'], array[p_tokens::numeric], array[p_type], array['']);
end $$;
revoke all on function worker.usage_legacy_book_direct from public, anon, authenticated;
grant execute on function worker.usage_legacy_book_direct to service_role;

-- Which of these uses are booked already: for a look before the drain.
--   p_uid, p_day  columns of one length, at most 5000; p_day counts from 1970-01-01
--   returns       [uid]
create or replace function worker.usage_legacy_find_events(p_uid uuid[], p_day int[]) returns jsonb
language sql stable security invoker
set search_path = '' set enable_hashjoin = off set enable_mergejoin = off as $$ -- the keys, not whole days
  select coalesce(jsonb_agg(distinct e.uid), '[]')
    from (select uid, day from unnest(p_uid, p_day) as u (uid, day) limit 5000) u
    join worker.usage_events e on e.day = date '1970-01-01' + u.day and e.uid = u.uid
$$;
revoke all on function worker.usage_legacy_find_events from public, anon, authenticated;
grant execute on function worker.usage_legacy_find_events to service_role;

-- What is remembered of some counters.
--   p_keys   at most 5000
--   returns  {based, counters: [{key, seen, generation}]}; based = every counter of the scope was seen once, so an
--            unknown one is new; keys nobody remembers under this scope are left out; seen as text
create or replace function worker.usage_legacy_read_counters(p_scope text, p_keys text[]) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select jsonb_build_object(
      'based', exists (select from worker.usage_legacy_scopes where scope = p_scope),
      'counters', coalesce(jsonb_agg(jsonb_build_object('key', key, 'seen', seen::text, 'generation', generation)), '[]'))
    from worker.usage_legacy_counters
   where key = any (p_keys[1:5000]) and scope = p_scope
$$;
revoke all on function worker.usage_legacy_read_counters from public, anon, authenticated;
grant execute on function worker.usage_legacy_read_counters to service_role;

-- A page of the remembered counters of a scope, by tenant and key, with both sides of each tenant in it. Read it before
-- the counters themselves: a use is counted before it is booked, so what is booked by now is counted by then.
--   p_after_tenant, p_after_key  last row of the page before; '' = from the start
--   p_limit  1 .. 5000
--   returns  {based, counters: [{key, tenant, seen, generation}], tenants: [{tenant, direct, pending, grown,
--            comparedDirect, comparedPending, comparedGrown, apart, cause, setAside}]}; amounts as text, setAside =
--            members of the tenant that wait in quarantine
create or replace function worker.usage_legacy_list_counters(p_scope text, p_after_tenant text, p_after_key text,
  p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select key, tenant, seen, generation from worker.usage_legacy_counters
     where scope = p_scope and (tenant, key) > (p_after_tenant collate "C", p_after_key collate "C")
     order by tenant, key
     limit least(greatest(p_limit, 1), 5000))
  select jsonb_build_object(
      'based', exists (select from worker.usage_legacy_scopes where scope = p_scope),
      'counters', (select coalesce(jsonb_agg(jsonb_build_object('key', key, 'tenant', tenant, 'seen', seen::text,
                     'generation', generation) order by tenant, key), '[]') from page),
      'tenants', (select coalesce(jsonb_agg(jsonb_build_object('tenant', t.tenant, 'direct', t.direct::text,
                     'pending', t.pending::text, 'grown', t.grown::text,
                     'comparedDirect', t.compared_direct::text, 'comparedPending', t.compared_pending::text,
                     'comparedGrown', t.compared_grown::text, 'apart', t.apart::text, 'cause', t.cause,
                     'setAside', (select count(*) from worker.usage_quarantine q
                                   where q.tenant = t.tenant and q.lane = 'legacy_pending' and q.resolved_at is null))
                     order by t.tenant), '[]')
                    from worker.usage_legacy_tenants t where t.tenant in (select tenant from page)))
$$;
revoke all on function worker.usage_legacy_list_counters from public, anon, authenticated;
grant execute on function worker.usage_legacy_list_counters to service_role;

-- How many findings of a kind a run may still list. A lost Redis makes a finding of every counter.
create or replace function worker.usage_legacy_findings_left(p_run uuid, p_kind text) returns bigint
language sql stable security invoker set search_path = '' as $$
  select greatest(0, 1000 - count(*)) from worker.usage_legacy_findings where run_id = p_run and kind = p_kind
$$;
revoke all on function worker.usage_legacy_findings_left from public, anon, authenticated;
grant execute on function worker.usage_legacy_findings_left to service_role;

-- Remembers the values of some counters, books the growth of those that book, and compares both sides of their tenants,
-- in one transaction. A counter moves only from where the caller saw it (compare-and-swap on seen and generation), so
-- a repeated or a concurrent call moves and books nothing.
--   p_moves     at most 5000 of {key, tenant, shard, kind, cause, seen, generation, value, books, uid, period, day, type,
--               model, agent, conversation}; seen null = not remembered. kind first: remember only. growth: value is
--               seen (or 0) plus what was used. gap: nobody knows what happened, nothing is booked; cause says what
--   p_compared  [{tenant, grown, direct, pending, was_grown, was_direct, was_pending, apart, cause, drift, drift_cause,
--               evidence}]; drift null = nothing to report. A tenant whose counters moved elsewhere meanwhile is left
--   returns     {moved, stale, tokens}; tokens = booked, as text
--   raises      UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_move_counters(p_run uuid, p_scope text, p_moves jsonb,
  p_compared jsonb default '[]') returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
declare
  v_moved text[];
  v_tokens numeric := 0;
  v_grown numeric;
  v_gaps bigint;
  v_drifts bigint;
begin
  if greatest(jsonb_array_length(p_moves), jsonb_array_length(p_compared)) > 5000 then
    raise exception 'usage_argument_invalid: at most 5000 counters and tenants' using errcode = 'UL001';
  end if;
  -- Shards, counters, tenants, each in order: nobody who locks some of them can wait for us in a circle.
  perform worker.usage_legacy_lock_shards(array(
    select (m ->> 'shard')::int from jsonb_array_elements(p_moves) m where (m ->> 'books')::boolean));
  perform from worker.usage_legacy_counters
    where key in (select m ->> 'key' from jsonb_array_elements(p_moves) m) order by key for update;
  insert into worker.usage_legacy_tenants (tenant, shard)
  select m ->> 'tenant', min((m ->> 'shard')::int) from jsonb_array_elements(p_moves) m group by 1 order by 1
  on conflict on constraint usage_legacy_tenants_pkey do nothing;
  perform from worker.usage_legacy_tenants
    where tenant in (select m ->> 'tenant' from jsonb_array_elements(p_moves || p_compared) m) order by tenant for update;

  with move as (
    select * from jsonb_to_recordset(p_moves)
      as m (key text, tenant text, kind text, seen numeric, generation int, value numeric)),
  changed as (
    update worker.usage_legacy_counters c
       set seen = m.value, generation = c.generation + (m.kind = 'gap')::int, moved_at = now()
      from move m
     where c.key = m.key and c.scope = p_scope and c.seen = m.seen and c.generation = m.generation
    returning c.key),
  made as (
    insert into worker.usage_legacy_counters as c (key, scope, tenant, seen)
    select key, p_scope, tenant, value from move where seen is null order by key
    on conflict on constraint usage_legacy_counters_pkey do update
      set scope = excluded.scope, tenant = excluded.tenant, seen = excluded.seen, generation = c.generation + 1,
          moved_at = now()
      where c.scope <> excluded.scope
    returning c.key)
  select array(select key from changed union select key from made) into v_moved;

  select coalesce((worker.usage_legacy_book('legacy_counter', array_agg(uid), array_agg(tenant), array_agg(shard),
           array_agg(period), array_agg(day), array_agg(value - coalesce(seen, 0)), array_agg(type), array_agg(model),
           null, array_agg(agent), array_agg(conversation),
           array_agg(jsonb_build_object('key', key, 'generation', coalesce(generation, 0), 'from', coalesce(seen, 0)::text,
             'to', value::text))) ->> 'tokens')::numeric, 0)
    into v_tokens
    from jsonb_to_recordset(p_moves)
      as m (key text, tenant text, shard int, kind text, seen numeric, generation int, value numeric, books boolean,
            uid uuid, period int, day int, type text, model text, agent text, conversation text)
   where books and kind = 'growth' and key = any (v_moved)
  having count(*) > 0;
  v_tokens := coalesce(v_tokens, 0);

  -- With its first counter a tenant is compared from now on: what was booked before has nothing to be compared with, and
  -- neither has what its other counters, met in the same run, counted before.
  with grown as (
    select tenant, coalesce(sum(value - coalesce(seen, 0)) filter (where kind = 'growth'), 0) as tokens,
           coalesce(sum(value) filter (where kind = 'growth' and seen is null), 0) as met
      from jsonb_to_recordset(p_moves) as m (key text, tenant text, kind text, seen numeric, value numeric)
     where key = any (v_moved)
     group by tenant),
  moved as (
    update worker.usage_legacy_tenants t
       set grown = t.grown + g.tokens, has_counters = true, met_in = coalesce(t.met_in, p_run),
           compared_direct = case when t.has_counters then t.compared_direct else t.direct end,
           compared_pending = case when t.has_counters then t.compared_pending else t.pending end,
           compared_grown = case when not t.has_counters then t.grown + g.tokens
                                 when t.met_in = p_run then t.compared_grown + g.met
                                 else t.compared_grown end
      from grown g
     where t.tenant = g.tenant)
  select coalesce(sum(tokens), 0) into v_grown from grown;

  with gap as (
    select * from jsonb_to_recordset(p_moves)
      as m (key text, tenant text, kind text, cause text, seen numeric, generation int, value numeric)
     where kind = 'gap' and key = any (v_moved)),
  listed as (
    insert into worker.usage_legacy_findings (run_id, kind, tenant, cause, tokens, evidence)
    select p_run, 'gap', tenant, cause, value - coalesce(seen, 0),
           jsonb_build_object('key', key, 'generation', coalesce(generation, 0), 'from', coalesce(seen, 0)::text,
             'to', value::text)
      from gap
     order by key
     limit worker.usage_legacy_findings_left(p_run, 'gap'))
  select count(*) into v_gaps from gap;

  with compared as (
    select * from jsonb_to_recordset(p_compared)
      as c (tenant text, grown numeric, direct numeric, pending numeric, was_grown numeric, was_direct numeric,
            was_pending numeric, apart numeric, cause text, drift numeric, drift_cause text, evidence jsonb)),
  settled as (
    update worker.usage_legacy_tenants t
       set compared_grown = c.grown, compared_direct = c.direct, compared_pending = c.pending, apart = c.apart,
           cause = c.cause, compared_at = now()
      from compared c
     where t.tenant = c.tenant and t.grown = c.grown and t.compared_grown = c.was_grown
       and t.compared_direct = c.was_direct and t.compared_pending = c.was_pending
    returning t.tenant, c.drift, c.drift_cause, c.evidence),
  listed as (
    insert into worker.usage_legacy_findings (run_id, kind, tenant, cause, tokens, evidence)
    select p_run, 'drift', tenant, drift_cause, drift, evidence
      from settled
     where drift is not null
     order by abs(drift) desc, tenant
     limit worker.usage_legacy_findings_left(p_run, 'drift'))
  select count(*) into v_drifts from settled where drift is not null;

  update worker.usage_legacy_runs
     set grown = grown + v_grown, counter_tokens = counter_tokens + v_tokens, resets = resets + v_gaps,
         drifts = drifts + v_drifts, updated_at = now()
   where run_id = p_run;
  return jsonb_build_object('moved', cardinality(v_moved), 'stale', jsonb_array_length(p_moves) - cardinality(v_moved),
    'tokens', v_tokens::text);
end $$;
revoke all on function worker.usage_legacy_move_counters from public, anon, authenticated;
grant execute on function worker.usage_legacy_move_counters to service_role;

-- Records a drain of the legacy lanes; idempotent per run id. Forgets up to 1000 runs of more than 400 days ago.
create or replace function worker.usage_legacy_start_run(p_run uuid, p_tracking boolean) returns void
language sql volatile security invoker set search_path = '' as $$
  with old as (
    delete from worker.usage_legacy_runs
     where run_id in (select run_id from worker.usage_legacy_runs
                       where started_at < now() - interval '400 days' order by started_at limit 1000)
    returning run_id)
  delete from worker.usage_legacy_findings where run_id in (select run_id from old);
  insert into worker.usage_legacy_runs (run_id, tracking) values (p_run, p_tracking)
  on conflict on constraint usage_legacy_runs_pkey do nothing;
$$;
revoke all on function worker.usage_legacy_start_run from public, anon, authenticated;
grant execute on function worker.usage_legacy_start_run to service_role;

-- Ends a run and says what it found. Idempotent; a run that succeeded stays so.
--   p_status    succeeded | failed
--   p_counters  off | compared | cluster; null = as it is
--   p_scope     settings under which every counter was read in this run; null = they were not
--   p_apart     tenants that are apart by more tokens than this are named
--   returns     {status, booked, duplicates, setAside, tokens, counters, grown, counterTokens, resets, drifts, tenantsApart,
--               worst: [{tenant, apart, cause}] at most 5}; amounts as text
create or replace function worker.usage_legacy_finish_run(p_run uuid, p_status text, p_counters text default null,
  p_scope text default null, p_error text default null, p_apart numeric default 0) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  r worker.usage_legacy_runs;
begin
  if p_scope is not null and p_status = 'succeeded' then
    insert into worker.usage_legacy_scopes (scope) values (p_scope)
    on conflict on constraint usage_legacy_scopes_pkey do nothing;
  end if;
  insert into worker.usage_legacy_runs (run_id, tracking) values (p_run, true)
  on conflict on constraint usage_legacy_runs_pkey do nothing;
  update worker.usage_legacy_runs
     set status = p_status, counters = coalesce(p_counters, counters), error_code = p_error, finished_at = now(),
         updated_at = now()
   where run_id = p_run and status <> 'succeeded';
  select * into r from worker.usage_legacy_runs where run_id = p_run;
  return jsonb_build_object('status', r.status, 'booked', r.booked, 'duplicates', r.duplicates, 'setAside', r.set_aside,
    'tokens', r.tokens::text, 'counters', r.counters, 'grown', r.grown::text, 'counterTokens', r.counter_tokens::text,
    'resets', r.resets, 'drifts', r.drifts,
    'tenantsApart', (select count(*) from worker.usage_legacy_tenants where abs(apart) > p_apart),
    'worst', (select coalesce(jsonb_agg(jsonb_build_object('tenant', tenant, 'apart', apart::text, 'cause', cause)
                order by abs(apart) desc, tenant), '[]')
                from (select tenant, apart, cause from worker.usage_legacy_tenants
                       where abs(apart) > p_apart order by abs(apart) desc, tenant limit 5) w));
end $$;
revoke all on function worker.usage_legacy_finish_run from public, anon, authenticated;
grant execute on function worker.usage_legacy_finish_run to service_role;

-- The legacy lanes as the readers show them.
--   p_limit  1 .. 200 runs, findings and tenants of each
--   returns  {days, lanes: [{lane, uses, duplicates, tokens, lastDay}], runs: [{runId, status, isTrackingEnabled, booked,
--            duplicates, setAside, tokens, counters, grown, counterTokens, resets, drifts, errorCode, startedAt,
--            finishedAt}], findings: [{id, runId, kind, tenant, cause, tokens, evidence, detectedAt}], tenants: [{tenant,
--            apart, cause, direct, pending, counter, grown, comparedAt}], counters}
--            lanes of the last `days` days; tenants that are apart, worst first; counters = how many are remembered;
--            amounts as text
create or replace function worker.usage_legacy_read_state(p_limit int default 20) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with bounds as (
    select least(greatest(p_limit, 1), 200) as rows, 35 as days, now()::date - date '1970-01-01' as today),
  lane as (
    select b.lane, sum(b.applied) as uses, sum(b.dup) as duplicates, sum(b.tokens) as tokens,
           date '1970-01-01' + max(b.from_n)::int as last_day
      from worker.usage_batches b, bounds
     where b.lane <> 'log' and b.from_n > today - days
     group by b.lane),
  run as (select r.* from worker.usage_legacy_runs r order by started_at desc limit (select rows from bounds)),
  finding as (select f.* from worker.usage_legacy_findings f order by id desc limit (select rows from bounds)),
  tenant as (
    select t.* from worker.usage_legacy_tenants t
     where t.apart <> 0 order by abs(t.apart) desc, t.tenant limit (select rows from bounds))
  select jsonb_build_object(
      'days', (select days from bounds),
      'lanes', (select coalesce(jsonb_agg(jsonb_build_object('lane', lane, 'uses', uses, 'duplicates', duplicates,
                  'tokens', tokens::text, 'lastDay', last_day) order by lane), '[]') from lane),
      'runs', (select coalesce(jsonb_agg(jsonb_build_object('runId', run_id, 'status', status,
                 'isTrackingEnabled', tracking, 'booked', booked, 'duplicates', duplicates, 'setAside', set_aside,
                 'tokens', tokens::text, 'counters', counters, 'grown', grown::text,
                 'counterTokens', counter_tokens::text, 'resets', resets, 'drifts', drifts, 'errorCode', error_code,
                 'startedAt', started_at, 'finishedAt', finished_at) order by started_at desc), '[]') from run),
      'findings', (select coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'runId', run_id, 'kind', kind,
                     'tenant', tenant, 'cause', cause, 'tokens', tokens::text, 'evidence', evidence,
                     'detectedAt', detected_at) order by id desc), '[]') from finding),
      'tenants', (select coalesce(jsonb_agg(jsonb_build_object('tenant', tenant, 'apart', apart::text, 'cause', cause,
                    'direct', direct::text, 'pending', pending::text, 'counter', counter::text, 'grown', grown::text,
                    'comparedAt', compared_at) order by abs(apart) desc, tenant), '[]') from tenant),
      'counters', (select count(*) from worker.usage_legacy_counters))
$$;
revoke all on function worker.usage_legacy_read_state from public, anon, authenticated;
grant execute on function worker.usage_legacy_read_state to service_role;

-- A person decides that what is apart stays so: it is explained, or booked by hand. The next difference starts from zero.
--   returns  {status: accepted, apart} | {status: nothing}; apart = what was apart, as text
create or replace function worker.usage_legacy_accept_drift(p_tenant text, p_who text, p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_apart numeric;
  v_cause text;
begin
  select apart, cause into v_apart, v_cause from worker.usage_legacy_tenants where tenant = p_tenant for update;
  if coalesce(v_apart, 0) = 0 then
    return jsonb_build_object('status', 'nothing');
  end if;
  update worker.usage_legacy_tenants set apart = 0, cause = null where tenant = p_tenant;
  insert into worker.usage_legacy_findings (kind, tenant, cause, tokens, evidence)
  values ('drift', p_tenant, 'accepted', -v_apart, jsonb_build_object('who', p_who, 'why', p_reason, 'cause', v_cause));
  return jsonb_build_object('status', 'accepted', 'apart', v_apart::text);
end $$;
revoke all on function worker.usage_legacy_accept_drift from public, anon, authenticated;
grant execute on function worker.usage_legacy_accept_drift to service_role;

-- Drop-in for producers that book their uses themselves: the name and parameters they have always called. Books one use
-- of the type llm at once, see worker.usage_legacy_book_direct. Returns nothing. Execute for service_role only.
create or replace function public.increment_token_usage(p_tenant_id text, p_tokens bigint) returns void
language sql volatile security invoker set search_path = '' as $$
  select worker.usage_legacy_book_direct(p_tenant_id, p_tokens, 'llm')
$$;
revoke all on function public.increment_token_usage(text, bigint) from public, anon, authenticated;
grant execute on function public.increment_token_usage(text, bigint) to service_role;

-- The same as public.increment_token_usage for uses of the type embedding.
create or replace function public.increment_embedding_token_usage(p_tenant_id text, p_tokens bigint) returns void
language sql volatile security invoker set search_path = '' as $$
  select worker.usage_legacy_book_direct(p_tenant_id, p_tokens, 'embedding')
$$;
revoke all on function public.increment_embedding_token_usage(text, bigint) from public, anon, authenticated;
grant execute on function public.increment_embedding_token_usage(text, bigint) to service_role;
