-- Why: work that must not get lost, and that no tenant may starve: items with leases and fences, retries, dead letters and
--   replay; a sum that shows that every accepted item is somewhere.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Functions call each other, in whatever order they stand.
set local check_function_bodies = off;

-- Work: one row for each item that was accepted. The row is the truth and a storage message only a wake-up.
--   sent_at    null = waits here for its turn; a tenant has only a few messages in the storage queues at a time
--   due_at     not before; the start asked for, then the next attempt
--   fence      rises with every claim
--   resend_at  when its message counts as lost
--   settle_at  when its feature is told again that it ended without success; null = it knows
create table if not exists worker.work_items (
  id uuid not null default gen_random_uuid(),
  seq bigint generated always as identity, -- order of acceptance, for pages
  kind text not null,
  version int not null,
  tenant text not null,
  priority text not null,
  rank smallint generated always as (
    case priority when 'urgent' then 0 when 'high' then 1 when 'normal' then 2 else 3 end) stored,
  payload jsonb not null,
  dedupe_key text,                         -- unique among the live items of kind and tenant
  source text,                             -- hash of the foreign message it was made of
  state text not null default 'queued',
  due_at timestamptz not null,
  sent_at timestamptz,
  sends int not null default 0,
  resend_at timestamptz,
  attempts int not null default 0,
  failures int not null default 0,         -- the handler failed
  crashes int not null default 0,          -- its worker vanished
  max_attempts int not null,
  fence bigint not null default 0,
  claimed_by text,
  started_at timestamptz,
  lease_until timestamptz,
  code text,                               -- why it failed last, or why it is dead
  error text,
  evidence jsonb,
  progress jsonb,
  result jsonb,
  stale_writes int not null default 0,     -- endings refused because somebody else held it
  replays int not null default 0,
  cancel_requested_at timestamptz,
  cancelled_by text,
  cancel_reason text,
  requested_by text not null,
  settle_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint work_items_pkey primary key (id),
  constraint work_items_kind_check check (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint work_items_tenant_check check (length(tenant) between 1 and 100),
  constraint work_items_priority_check check (priority in ('urgent', 'high', 'normal', 'low')),
  constraint work_items_payload_check check (octet_length(payload::text) <= 16384),
  constraint work_items_dedupe_key_check check (length(dedupe_key) between 1 and 200),
  constraint work_items_state_check check (
    state in ('queued', 'running', 'retrying', 'succeeded', 'dead', 'cancelled')),
  constraint work_items_max_attempts_check check (max_attempts between 1 and 100),
  constraint work_items_error_check check (length(error) <= 500),
  constraint work_items_result_check check (octet_length(result::text) <= 32768),
  constraint work_items_running_check check (state <> 'running' or (lease_until is not null and claimed_by is not null)),
  constraint work_items_finished_check check (
    (state in ('succeeded', 'dead', 'cancelled')) = (finished_at is not null)),
  constraint work_items_dead_check check (state <> 'dead' or code is not null)
);
create unique index if not exists work_items_seq_idx on worker.work_items (seq);
create unique index if not exists work_items_source_idx on worker.work_items (source) where source is not null;
create unique index if not exists work_items_dedupe_idx on worker.work_items (kind, tenant, dedupe_key)
  where dedupe_key is not null and state in ('queued', 'running', 'retrying');
create index if not exists work_items_turn_idx on worker.work_items (kind, tenant, rank, due_at, seq)
  where sent_at is null and state in ('queued', 'retrying');
create index if not exists work_items_waiting_idx on worker.work_items (kind, tenant, due_at)
  where sent_at is null and state in ('queued', 'retrying');
create index if not exists work_items_sent_idx on worker.work_items (kind, tenant, due_at)
  where sent_at is not null and state in ('queued', 'retrying');
create index if not exists work_items_resend_idx on worker.work_items (resend_at)
  where sent_at is not null and state in ('queued', 'retrying');
create index if not exists work_items_running_idx on worker.work_items (kind, tenant) where state = 'running';
create index if not exists work_items_claimed_by_idx on worker.work_items (claimed_by) where state = 'running';
create index if not exists work_items_lease_idx on worker.work_items (lease_until) where state = 'running';
create index if not exists work_items_settle_idx on worker.work_items (settle_at) where settle_at is not null;
create index if not exists work_items_state_idx on worker.work_items (state, seq);
create index if not exists work_items_tenant_idx on worker.work_items (tenant, seq);
create index if not exists work_items_finished_at_idx on worker.work_items (finished_at) where finished_at is not null;
alter table worker.work_items enable row level security;
grant select, insert, update, delete on worker.work_items to service_role;

-- The story of an item: one row for each claim.
create table if not exists worker.work_attempts (
  item_id uuid not null,
  fence bigint not null,
  attempt int not null,
  worker text not null,
  started_at timestamptz not null,
  ended_at timestamptz,
  outcome text,                            -- null = works
  code text,
  error text,
  constraint work_attempts_pkey primary key (item_id, fence),
  constraint work_attempts_item_id_fkey foreign key (item_id) references worker.work_items (id) on delete cascade,
  constraint work_attempts_outcome_check check (
    outcome in ('succeeded', 'retrying', 'dead', 'cancelled', 'crashed', 'released')),
  constraint work_attempts_ended_check check ((ended_at is null) = (outcome is null))
);
alter table worker.work_attempts enable row level security;
grant select, insert, update, delete on worker.work_attempts to service_role;

-- What was accepted and how it ended, counted where it happens and never again from the items, so that one that goes
-- astray shows. Several rows for each kind, so that workers do not wait for each other: add them up.
create table if not exists worker.work_counters (
  kind text not null,
  slot smallint not null,
  accepted bigint not null default 0,
  succeeded bigint not null default 0,
  dead bigint not null default 0,
  cancelled bigint not null default 0,
  revived bigint not null default 0,       -- dead items that were replayed
  crashes bigint not null default 0,       -- leases that ran out: somebody else took over
  stale_writes bigint not null default 0,
  constraint work_counters_pkey primary key (kind, slot)
);
alter table worker.work_counters enable row level security;
grant select, insert, update on worker.work_counters to service_role;

-- Receipts of replays: who moved which dead letters back, and why.
create table if not exists worker.work_replays (
  id uuid not null default gen_random_uuid(),
  actor text not null,
  reason text not null,
  filter jsonb not null,
  per_second int not null,
  moved int not null,
  skipped int not null,
  created_at timestamptz not null default now(),
  constraint work_replays_pkey primary key (id)
);
create index if not exists work_replays_created_at_idx on worker.work_replays (created_at);
alter table worker.work_replays enable row level security;
grant select, insert, delete on worker.work_replays to service_role;

create table if not exists worker.work_replay_items (
  replay_id uuid not null,
  item_id uuid not null,
  outcome text not null,
  due_at timestamptz,
  constraint work_replay_items_pkey primary key (replay_id, item_id),
  constraint work_replay_items_replay_id_fkey foreign key (replay_id) references worker.work_replays (id)
    on delete cascade,
  constraint work_replay_items_outcome_check check (
    outcome in ('moved', 'not_dead', 'duplicate', 'not_replayable', 'unknown'))
);
alter table worker.work_replay_items enable row level security;
grant select, insert, delete on worker.work_replay_items to service_role;

-- Whether every item that was accepted is somewhere: what was counted as it came and ended against what is there.
--   returns  {accepted, succeeded, dead, cancelled, queued, running, retrying, unaccounted, crashes, staleWrites} as text;
--            unaccounted is 0, or something is wrong
create or replace function worker.work_accounting() returns jsonb
language sql stable security invoker set search_path = '' as $$
  with ended as (
    select coalesce(sum(accepted), 0) as accepted, coalesce(sum(succeeded), 0) as succeeded,
           coalesce(sum(dead - revived), 0) as dead, coalesce(sum(cancelled), 0) as cancelled,
           coalesce(sum(crashes), 0) as crashes, coalesce(sum(stale_writes), 0) as stale_writes
      from worker.work_counters
  ), live as (
    select count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'running') as running,
           count(*) filter (where state = 'retrying') as retrying
      from worker.work_items where state in ('queued', 'running', 'retrying'))
  select jsonb_build_object('accepted', accepted::text, 'succeeded', succeeded::text, 'dead', dead::text,
      'cancelled', cancelled::text, 'queued', queued::text, 'running', running::text, 'retrying', retrying::text,
      'unaccounted', (accepted - succeeded - dead - cancelled - queued - running - retrying)::text,
      'crashes', crashes::text, 'staleWrites', stale_writes::text)
    from ended, live
$$;
revoke all on function worker.work_accounting from public, anon, authenticated;
grant execute on function worker.work_accounting to service_role;

-- For functions that write in the name of an item, in their own transaction: holds only for the claim that still has it,
-- and nobody can take it over before that transaction ends.
--   raises  WK002 work_fence_stale (permanent)
create or replace function worker.work_assert_fence(p_id uuid, p_fence bigint) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform from worker.work_items where id = p_id and fence = p_fence and state = 'running' for share;
  if not found then
    raise exception 'work_fence_stale' using errcode = 'WK002';
  end if;
end $$;
revoke all on function worker.work_assert_fence from public, anon, authenticated;
grant execute on function worker.work_assert_fence to service_role;

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

-- Claims several items of one kind for one process, in one transaction.
--   p_ids      at most 100
--   p_randoms  one for each
--   returns    an array of what work_claim says, in the order of p_ids
create or replace function worker.work_claim_many(p_ids uuid[], p_worker text, p_lease_ms int, p_running_max int,
  p_randoms float8[]) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_claims jsonb := '[]';
begin
  if coalesce(cardinality(p_ids), 0) not between 1 and 100 then
    raise exception 'work_argument_invalid: 1 to 100 items' using errcode = 'WK001';
  end if;
  perform worker.work_lock_all(p_ids);
  for n in 1 .. cardinality(p_ids) loop
    v_claims := v_claims || jsonb_build_array(
      worker.work_claim(p_ids[n], p_worker, p_lease_ms, p_running_max, p_randoms[n]));
  end loop;
  return v_claims;
end $$;
revoke all on function worker.work_claim_many from public, anon, authenticated;
grant execute on function worker.work_claim_many to service_role;

-- Adds to the counters of a kind, in one of 16 rows, so that workers do not wait for each other.
--   p_what  name of the counter
create or replace function worker.work_count(p_kind text, p_what text, p_count bigint default 1) returns void
language sql volatile security invoker set search_path = '' as $$
  insert into worker.work_counters as c (kind, slot, accepted, succeeded, dead, cancelled, revived, crashes, stale_writes)
  select p_kind, pg_backend_pid() % 16, n * (p_what = 'accepted')::int, n * (p_what = 'succeeded')::int,
         n * (p_what = 'dead')::int, n * (p_what = 'cancelled')::int, n * (p_what = 'revived')::int,
         n * (p_what = 'crashes')::int, n * (p_what = 'stale_writes')::int
    from (select p_count as n) as given
   where p_count <> 0
  on conflict on constraint work_counters_pkey do update
     set accepted = c.accepted + excluded.accepted, succeeded = c.succeeded + excluded.succeeded,
         dead = c.dead + excluded.dead, cancelled = c.cancelled + excluded.cancelled,
         revived = c.revived + excluded.revived, crashes = c.crashes + excluded.crashes,
         stale_writes = c.stale_writes + excluded.stale_writes
$$;
revoke all on function worker.work_count from public, anon, authenticated;
grant execute on function worker.work_count to service_role;

-- Ends the attempt that a claim began. The first ending stands.
create or replace function worker.work_end_attempt(p_id uuid, p_fence bigint, p_outcome text, p_code text default null,
  p_error text default null) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.work_attempts set ended_at = clock_timestamp(), outcome = p_outcome, code = p_code, error = p_error
   where item_id = p_id and fence = p_fence and ended_at is null
$$;
revoke all on function worker.work_end_attempt from public, anon, authenticated;
grant execute on function worker.work_end_attempt to service_role;

-- Accepts items, all or none. One with the dedupe key of a live item of its kind and tenant, or made of a message that is
-- known already, is a duplicate: the first one stands.
--   p_items        at most 1000 of {kind, version, tenant, priority, payload, maxAttempts, requestedBy,
--                  dedupeKey?, source?, runAt?, delayMs?}
--   p_running_max  {kind: items of a tenant that may run at once}
--   p_is_sent      their messages are there already
--   returns        {items: [{id, isDuplicate}] in the order given, send: [{id, kind, priority, delayMs}]}
--   raises         WK001 work_argument_invalid (permanent); 40001 work_busy (transient)
create or replace function worker.work_enqueue(p_items jsonb, p_running_max jsonb, p_is_sent boolean default false)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamptz;
  v_send jsonb := '[]';
  v_items jsonb;
  t record;
begin
  if jsonb_typeof(p_items) is distinct from 'array' or jsonb_array_length(p_items) > 1000 then
    raise exception 'work_argument_invalid: at most 1000 items' using errcode = 'WK001';
  end if;
  for t in select distinct value ->> 'kind' as kind, value ->> 'tenant' as tenant
             from jsonb_array_elements(p_items) order by 1, 2 loop
    perform worker.work_lock(t.kind, t.tenant);
  end loop;
  v_now := clock_timestamp();

  with given as (
    select gen_random_uuid() as id, ordinality as place, value as v from jsonb_array_elements(p_items) with ordinality
  ), added as (
    insert into worker.work_items (id, kind, version, tenant, priority, payload, max_attempts, requested_by, dedupe_key,
      source, due_at, sent_at, sends, resend_at, created_at, updated_at)
    select id, v ->> 'kind', (v ->> 'version')::int, v ->> 'tenant', v ->> 'priority', v -> 'payload',
           (v ->> 'maxAttempts')::int, v ->> 'requestedBy', v ->> 'dedupeKey', v ->> 'source',
           coalesce((v ->> 'runAt')::timestamptz, v_now + (v ->> 'delayMs')::float8 * interval '1 millisecond', v_now),
           case when p_is_sent then v_now end, p_is_sent::int,
           case when p_is_sent then worker.work_resend_at(v_now, 1) end, v_now, v_now
      from given order by place
    on conflict do nothing
    returning id
  )
  select jsonb_agg(jsonb_build_object('id', added.id, 'place', place, 'v', given.v) order by place)
    into v_items
    from given left join added on added.id = given.id;
  for t in select value -> 'v' ->> 'kind' as kind, count(*) as n from jsonb_array_elements(v_items)
            where value ->> 'id' is not null group by 1 order by 1 loop
    perform worker.work_count(t.kind, 'accepted', t.n);
  end loop;

  with known as (
    select (value ->> 'place')::int as place, coalesce((value ->> 'id')::uuid, s.id, d.id) as id,
           value ->> 'id' is null as is_duplicate
      from jsonb_array_elements(v_items)
      left join worker.work_items s on value ->> 'id' is null and s.source = value -> 'v' ->> 'source'
      left join worker.work_items d on value ->> 'id' is null and s.id is null and d.kind = value -> 'v' ->> 'kind'
        and d.tenant = value -> 'v' ->> 'tenant' and d.dedupe_key = value -> 'v' ->> 'dedupeKey'
        and d.state in ('queued', 'running', 'retrying'))
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'isDuplicate', is_duplicate) order by place), '[]')
    into v_items from known;
  if jsonb_path_exists(v_items, '$[*] ? (@.id == null)') then
    raise exception 'work_busy' using errcode = '40001'; -- the one it repeats ended just now
  end if;

  if not p_is_sent then
    for t in select distinct value ->> 'kind' as kind, value ->> 'tenant' as tenant
               from jsonb_array_elements(p_items) order by 1, 2 loop
      select v_send || coalesce(jsonb_agg(value || jsonb_build_object('kind', t.kind) order by ordinality), '[]')
        into v_send
        from jsonb_array_elements(worker.work_refill(t.kind, t.tenant, (p_running_max ->> t.kind)::int))
             with ordinality;
    end loop;
  end if;
  return jsonb_build_object('items', v_items, 'send', v_send);
end $$;
revoke all on function worker.work_enqueue from public, anon, authenticated;
grant execute on function worker.work_enqueue to service_role;

-- Renews the lease of a claim, also when it ran out and nobody came.
--   p_progress  shows in the item; null = as it was
--   returns     {isHeld, isCancelled}
create or replace function worker.work_heartbeat(p_id uuid, p_fence bigint, p_lease_ms int, p_progress jsonb default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_cancelled boolean;
begin
  update worker.work_items
     set lease_until = clock_timestamp() + p_lease_ms * interval '1 millisecond',
         progress = coalesce(p_progress, progress), updated_at = clock_timestamp()
   where id = p_id and fence = p_fence and state = 'running'
  returning cancel_requested_at is not null into v_cancelled;
  return jsonb_build_object('isHeld', found, 'isCancelled', coalesce(v_cancelled, false));
end $$;
revoke all on function worker.work_heartbeat from public, anon, authenticated;
grant execute on function worker.work_heartbeat to service_role;

-- Items, the newest first.
--   p_state    queued | running | retrying | succeeded | dead | cancelled; null = all. The same for the other filters
--   p_search   part of the error
--   p_since, p_until  accepted in [since, until)
--   p_before   seq of the last row of the page before; null = from the newest
--   p_limit    1 .. 200
--   returns    {rows: [work_row], next}; next = p_before of the following page or null
create or replace function worker.work_list(p_state text default null, p_kind text default null, p_tenant text default null,
  p_code text default null, p_search text default null, p_since timestamptz default null, p_until timestamptz default null,
  p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.work_items i
     where (p_state is null or state = p_state) and (p_kind is null or kind = p_kind)
       and (p_tenant is null or tenant = p_tenant) and (p_code is null or code = p_code)
       and (p_search is null or position(lower(p_search) in lower(error)) > 0)
       and (p_since is null or created_at >= p_since) and (p_until is null or created_at < p_until)
       and (p_before is null or seq < p_before)
     order by seq desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object('rows', coalesce(jsonb_agg(worker.work_row(page) order by seq desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(seq)::text end)
    from page
$$;
revoke all on function worker.work_list from public, anon, authenticated;
grant execute on function worker.work_list to service_role;

-- One decision about the turns of a tenant at a time, until the transaction ends.
create or replace function worker.work_lock(p_kind text, p_tenant text) returns void
language sql volatile security invoker set search_path = '' as $$
  select pg_advisory_xact_lock(hashtextextended('work:' || p_kind || ':' || p_tenant, 0))
$$;
revoke all on function worker.work_lock from public, anon, authenticated;
grant execute on function worker.work_lock to service_role;

-- Locks the turns of all tenants of some items, in one order for everybody.
create or replace function worker.work_lock_all(p_ids uuid[]) returns void
language plpgsql volatile security invoker set search_path = '' as $$
declare
  t record;
begin
  for t in select distinct kind, tenant from worker.work_items where id = any (p_ids) order by 1, 2 loop
    perform worker.work_lock(t.kind, t.tenant);
  end loop;
end $$;
revoke all on function worker.work_lock_all from public, anon, authenticated;
grant execute on function worker.work_lock_all to service_role;

-- One item with its story and with what it may wait for.
--   returns  the row of work_row and {payload, result, progress, evidence, fence, staleWrites, cancelRequestedAt,
--            cancelledBy, cancelReason, leaseUntil, sentAt, isDue, isLeaseOver, sentSeconds, runningOfTenant,
--            history: last 50 of [{fence, attempt, worker, startedAt, endedAt, outcome, code, error}],
--            replayIds: last 20}; null = no such item
create or replace function worker.work_read(p_id uuid) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select worker.work_row(i) || jsonb_build_object('payload', i.payload, 'result', i.result, 'progress', i.progress,
      'evidence', i.evidence, 'fence', i.fence::text, 'staleWrites', i.stale_writes,
      'cancelRequestedAt', i.cancel_requested_at, 'cancelledBy', i.cancelled_by, 'cancelReason', i.cancel_reason,
      'leaseUntil', i.lease_until, 'sentAt', i.sent_at, 'isDue', i.due_at <= clock_timestamp(),
      'isLeaseOver', coalesce(i.lease_until < clock_timestamp(), false),
      'sentSeconds', floor(extract(epoch from clock_timestamp() - greatest(i.sent_at, i.due_at)))::bigint,
      'runningOfTenant', (select count(*) from worker.work_items
                           where kind = i.kind and tenant = i.tenant and state = 'running'),
      'history', coalesce((
        select jsonb_agg(jsonb_build_object('fence', a.fence::text, 'attempt', a.attempt, 'worker', a.worker,
                 'startedAt', a.started_at, 'endedAt', a.ended_at, 'outcome', a.outcome, 'code', a.code,
                 'error', a.error) order by a.fence)
          from (select * from worker.work_attempts where item_id = i.id order by fence desc limit 50) a), '[]'),
      'replayIds', coalesce((
        select jsonb_agg(r.replay_id) from (
          select ri.replay_id from worker.work_replay_items ri join worker.work_replays wr on wr.id = ri.replay_id
           where ri.item_id = i.id order by wr.created_at desc limit 20) r), '[]'))
    from worker.work_items i where i.id = p_id
$$;
revoke all on function worker.work_read from public, anon, authenticated;
grant execute on function worker.work_read to service_role;

-- The receipt of a replay.
--   returns  {replayId, actor, reason, filter, perSecond, moved, skipped, createdAt, items: [{id, outcome, dueAt, state}]};
--            state = where the item is now; null = no such receipt
create or replace function worker.work_read_replay(p_id uuid) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('replayId', r.id, 'actor', r.actor, 'reason', r.reason, 'filter', r.filter,
      'perSecond', r.per_second, 'moved', r.moved, 'skipped', r.skipped, 'createdAt', r.created_at,
      'items', coalesce((
        select jsonb_agg(jsonb_build_object('id', ri.item_id, 'outcome', ri.outcome, 'dueAt', ri.due_at, 'state', i.state)
                 order by ri.due_at, ri.item_id)
          from worker.work_replay_items ri left join worker.work_items i on i.id = ri.item_id
         where ri.replay_id = r.id), '[]'))
    from worker.work_replays r where r.id = p_id
$$;
revoke all on function worker.work_read_replay from public, anon, authenticated;
grant execute on function worker.work_read_replay to service_role;

-- Takes an item from a worker that let its lease run out. The third time it is quarantined: something in it takes
-- workers down. The first time it is due again at once, then after up to 30 s, so that neighbours part. The caller holds the row.
--   p_random  0 up to, not including, 1
--   returns   its new state: retrying | dead | cancelled
create or replace function worker.work_recover(p_id uuid, p_random float8) returns text
language plpgsql volatile security invoker set search_path = '' as $$
declare
  c_crashes_max constant int := 3;
  v_now timestamptz := clock_timestamp();
  i worker.work_items;
  v_state text;
begin
  select * into strict i from worker.work_items where id = p_id for update;
  v_state := case when i.cancel_requested_at is not null then 'cancelled'
                  when i.crashes + 1 >= c_crashes_max then 'dead' else 'retrying' end;
  perform worker.work_end_attempt(i.id, i.fence, 'crashed');
  perform worker.work_count(i.kind, 'crashes');
  if v_state <> 'retrying' then
    perform worker.work_count(i.kind, v_state);
  end if;
  update worker.work_items
     set state = v_state, crashes = crashes + 1, lease_until = null, sent_at = null, resend_at = null, updated_at = v_now,
         due_at = case when crashes = 0 then v_now else v_now + interval '30 seconds' * p_random end,
         code = case v_state when 'dead' then 'work_poison' when 'cancelled' then 'work_cancelled' else code end,
         error = case v_state when 'dead' then format('its worker vanished %s times', crashes + 1) else error end,
         finished_at = case when v_state <> 'retrying' then v_now end,
         settle_at = case when v_state <> 'retrying' then v_now end
   where id = p_id;
  return v_state;
end $$;
revoke all on function worker.work_recover from public, anon, authenticated;
grant execute on function worker.work_recover to service_role;

-- Lets a tenant's next items into the storage queues: as many as it may run, the most urgent first. The rest waits here,
-- so that nobody stands behind all the items of another tenant. What starts within 75 s goes out with a delay; of those
-- it may have as many again. The caller holds work_lock.
--   p_running_max  items of the tenant that may run at once
--   returns        [{id, priority, delayMs}], marked as sent
create or replace function worker.work_refill(p_kind text, p_tenant text, p_running_max int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  c_ahead constant interval := '75 seconds';
  v_now timestamptz := clock_timestamp();
  v_ids uuid[];
  v_sent jsonb;
begin
  if not exists (
    select from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is null and state in ('queued', 'retrying')
       and due_at <= v_now + c_ahead) then
    return '[]';
  end if;
  with running as (
    select count(*) as n from worker.work_items where kind = p_kind and tenant = p_tenant and state = 'running'
  ), sent as (
    select rank, due_at <= v_now as is_due, count(*) as n from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is not null and state in ('queued', 'retrying')
       and due_at <= v_now + c_ahead
     group by 1, 2
  ), due as (
    select id, rank, row_number() over (order by rank, due_at, seq) as place from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is null and state in ('queued', 'retrying')
       and due_at <= v_now
     order by rank, due_at, seq limit p_running_max
  ), soon as (
    select id, row_number() over (order by due_at, seq) as place from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is null and state in ('queued', 'retrying')
       and due_at > v_now and due_at <= v_now + c_ahead
     order by due_at, seq limit p_running_max
  )
  -- Ids first: joined with the update, a plan without statistics would choose them anew for every waiting item.
  select array_agg(id) into v_ids from (
    select id from due
     where place + (select n from running)
             + coalesce((select sum(n) from sent where is_due and sent.rank <= due.rank), 0) <= p_running_max
     union all
    select id from soon
     where place + coalesce((select sum(n) from sent where not is_due), 0) <= p_running_max) chosen;
  with marked as (
    update worker.work_items w
       set sent_at = v_now, sends = 1, resend_at = worker.work_resend_at(greatest(v_now, due_at), 1), updated_at = v_now
     where w.id = any (v_ids) and w.sent_at is null and w.state in ('queued', 'retrying')
    returning w.id, w.rank, w.priority, w.due_at, w.seq)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'priority', priority,
           'delayMs', greatest(0, ceil(extract(epoch from due_at - v_now) * 1000)::bigint)) order by rank, due_at, seq), '[]')
    into v_sent from marked;
  return v_sent;
end $$;
revoke all on function worker.work_refill from public, anon, authenticated;
grant execute on function worker.work_refill to service_role;

-- Books a message that is no item and cannot become one: a dead letter of the kind `unknown`, or of the kind it names.
--   p_source    hash of the message; a second delivery changes nothing
--   p_code      why
--   p_evidence  object: the queue and the start of the message
--   returns     {id, isDuplicate}
create or replace function worker.work_reject(p_source text, p_kind text, p_version int, p_tenant text, p_priority text,
  p_code text, p_error text, p_evidence jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_id uuid;
begin
  insert into worker.work_items (kind, version, tenant, priority, payload, source, state, due_at, max_attempts, code,
    error, evidence, requested_by, finished_at)
  values (p_kind, p_version, p_tenant, p_priority, '{}', p_source, 'dead', now(), 1, p_code, left(p_error, 500),
          p_evidence, 'message', clock_timestamp())
  on conflict (source) where source is not null do nothing
  returning id into v_id;
  if v_id is null then
    select id into v_id from worker.work_items where source = p_source;
    return jsonb_build_object('id', v_id, 'isDuplicate', true);
  end if;
  perform worker.work_count(p_kind, 'accepted');
  perform worker.work_count(p_kind, 'dead');
  return jsonb_build_object('id', v_id, 'isDuplicate', false);
end $$;
revoke all on function worker.work_reject from public, anon, authenticated;
grant execute on function worker.work_reject to service_role;

-- Moves dead letters back to work, with a receipt. Of two operators who move the same ones each moves what the other left.
--   p_ids         at most 1000; null = those of the filter, the oldest first
--   p_filter      {kind?, tenant?, code?, until?}; goes with p_limit, 1 .. 1000
--   p_per_second  that many start in a second, 1 .. 1000
--   p_dry_run     only says what would happen
--   p_known       kinds that somebody works on; the others stay dead, and so do messages that were never items
--   returns  {replayId (null on a dry run), moved, skipped, items: [{id, kind, outcome, dueAt}], isMore}
--            outcome = moved | not_dead | duplicate (its dedupe key is live again) | not_replayable | unknown
--   raises   WK001 work_argument_invalid
create or replace function worker.work_replay(p_ids uuid[], p_filter jsonb, p_limit int, p_per_second int,
  p_dry_run boolean, p_known text[], p_actor text, p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_ids uuid[] := p_ids;
  v_now timestamptz;
  v_replay uuid;
  v_items jsonb := '[]';
  v_moved int := 0;
  v_due timestamptz;
  v_outcome text;
  i worker.work_items;
  v_id uuid;
  t record;
begin
  if cardinality(p_ids) > 1000 or p_per_second is null or p_per_second not between 1 and 1000 or p_limit not between 1 and 1000 then
    raise exception 'work_argument_invalid: at most 1000 items, 1 to 1000 a second' using errcode = 'WK001';
  end if;
  if v_ids is null then
    select array_agg(id order by seq) into v_ids from (
      select id, seq from worker.work_items
       where state = 'dead' and kind = any (p_known) and not coalesce(evidence, '{}') ? 'message'
         and (p_filter ->> 'kind' is null or kind = p_filter ->> 'kind')
         and (p_filter ->> 'tenant' is null or tenant = p_filter ->> 'tenant')
         and (p_filter ->> 'code' is null or code = p_filter ->> 'code')
         and (p_filter ->> 'until' is null or finished_at < (p_filter ->> 'until')::timestamptz)
       order by seq limit p_limit) chosen;
  end if;
  -- In one order for everybody, so that two of these wait for each other and not in a circle.
  for t in select distinct kind, tenant from worker.work_items where id = any (v_ids) order by 1, 2 loop
    perform worker.work_lock(t.kind, t.tenant);
  end loop;
  v_now := clock_timestamp();

  for v_id in select distinct id from unnest(v_ids) as id order by id loop
    select * into i from worker.work_items where id = v_id for update;
    v_due := null;
    v_outcome := case when not found then 'unknown' when i.state <> 'dead' then 'not_dead'
                      when i.kind <> all (p_known) or coalesce(i.evidence, '{}') ? 'message' then 'not_replayable' else 'moved' end;
    if v_outcome = 'moved' and i.dedupe_key is not null and exists (
      select from worker.work_items where kind = i.kind and tenant = i.tenant and dedupe_key = i.dedupe_key
         and state in ('queued', 'running', 'retrying')) then
      v_outcome := 'duplicate';
    end if;
    if v_outcome = 'moved' then
      v_due := v_now + interval '1 second' * (v_moved / p_per_second);
      v_moved := v_moved + 1;
      if not p_dry_run then
        update worker.work_items
           set state = 'queued', due_at = v_due, failures = 0, crashes = 0, attempts = 0, replays = replays + 1,
               finished_at = null, settle_at = null, sent_at = null, resend_at = null, cancel_requested_at = null,
               updated_at = v_now
         where id = v_id;
      end if;
    end if;
    v_items := v_items || jsonb_build_object('id', v_id, 'kind', i.kind, 'outcome', v_outcome, 'dueAt', v_due);
  end loop;

  if not p_dry_run then
    insert into worker.work_replays (actor, reason, filter, per_second, moved, skipped)
    values (p_actor, p_reason, case when p_ids is null then coalesce(p_filter, '{}') else '{"ids": true}' end,
            p_per_second, v_moved, jsonb_array_length(v_items) - v_moved)
    returning id into v_replay;
    insert into worker.work_replay_items (replay_id, item_id, outcome, due_at)
    select v_replay, (value ->> 'id')::uuid, value ->> 'outcome', (value ->> 'dueAt')::timestamptz
      from jsonb_array_elements(v_items);
    for t in select value ->> 'kind' as kind, count(*) as n from jsonb_array_elements(v_items)
              where value ->> 'outcome' = 'moved' group by 1 order by 1 loop
      perform worker.work_count(t.kind, 'revived', t.n);
    end loop;
    perform worker.audit_write(p_actor, 'work_replay', 'work_replay:' || v_replay, p_reason,
      jsonb_build_object('moved', v_moved, 'skipped', jsonb_array_length(v_items) - v_moved));
  end if;
  return jsonb_build_object('replayId', v_replay, 'moved', v_moved, 'skipped', jsonb_array_length(v_items) - v_moved,
    'items', v_items, 'isMore', p_ids is null and coalesce(cardinality(v_ids), 0) = p_limit);
end $$;
revoke all on function worker.work_replay from public, anon, authenticated;
grant execute on function worker.work_replay to service_role;

-- When a message counts as lost: 5 minutes after it could have been read, twice as long after every repetition, at most
-- 6 hours. A long queue is not a lost message, and repeating it would make it longer.
create or replace function worker.work_resend_at(p_readable timestamptz, p_sends int) returns timestamptz
language sql immutable security invoker set search_path = '' as $$
  select p_readable + least(interval '6 hours', interval '5 minutes' * power(2, least(greatest(p_sends - 1, 0), 10)))
$$;
revoke all on function worker.work_resend_at from public, anon, authenticated;
grant execute on function worker.work_resend_at to service_role;

-- An item as lists show it. Numbers that may pass 2^53 are text.
create or replace function worker.work_row(i worker.work_items) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('id', i.id, 'seq', i.seq::text, 'kind', i.kind, 'version', i.version, 'tenant', i.tenant,
    'priority', i.priority, 'state', i.state, 'attempts', i.attempts, 'failures', i.failures, 'crashes', i.crashes,
    'maxAttempts', i.max_attempts, 'replays', i.replays, 'code', i.code, 'error', i.error, 'dueAt', i.due_at,
    'createdAt', i.created_at, 'updatedAt', i.updated_at, 'startedAt', i.started_at, 'finishedAt', i.finished_at,
    'requestedBy', i.requested_by, 'dedupeKey', i.dedupe_key)
$$;
revoke all on function worker.work_row from public, anon, authenticated;
grant execute on function worker.work_row to service_role;

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

-- Ends several claims of one kind, in one transaction.
--   p_settlements  at most 100 of {id, fence, outcome, code, error, result, evidence, delayMs, random, hasSettle}, as the
--                  parameters of work_settle
--   returns        an array of what work_settle says, in the same order
create or replace function worker.work_settle_many(p_settlements jsonb, p_running_max int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_settled jsonb := '[]';
  s jsonb;
begin
  if jsonb_typeof(p_settlements) is distinct from 'array' or jsonb_array_length(p_settlements) not between 1 and 100 then
    raise exception 'work_argument_invalid: 1 to 100 settlements' using errcode = 'WK001';
  end if;
  perform worker.work_lock_all(array (select (value ->> 'id')::uuid from jsonb_array_elements(p_settlements)));
  for s in select value from jsonb_array_elements(p_settlements) with ordinality order by ordinality loop
    v_settled := v_settled || jsonb_build_array(worker.work_settle((s ->> 'id')::uuid, (s ->> 'fence')::bigint,
      s ->> 'outcome', p_running_max, s ->> 'code', s ->> 'error', nullif(s -> 'result', 'null'),
      nullif(s -> 'evidence', 'null'), coalesce((s ->> 'delayMs')::bigint, 0), coalesce((s ->> 'random')::float8, 0),
      coalesce((s ->> 'hasSettle')::boolean, false)));
  end loop;
  return v_settled;
end $$;
revoke all on function worker.work_settle_many from public, anon, authenticated;
grant execute on function worker.work_settle_many to service_role;

-- The features know that these items ended.
create or replace function worker.work_settled(p_ids uuid[]) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.work_items set settle_at = null where id = any (p_ids) and state in ('dead', 'cancelled')
$$;
revoke all on function worker.work_settled from public, anon, authenticated;
grant execute on function worker.work_settled to service_role;

-- The live items by kind, priority and state, with the age of the oldest one that could run, and the accounting.
--   returns  {accounting, groups: at most 500 of [{kind, priority, queued, running, retrying, waiting, oldestSeconds,
--            expired}], kinds: [{kind, accepted, succeeded, dead, cancelled}]}; waiting = has no message yet;
--            expired = past their lease; counts of kinds as text
create or replace function worker.work_stats() returns jsonb
language sql stable security invoker set search_path = '' as $$
  select jsonb_build_object('accounting', worker.work_accounting(),
    'groups', coalesce((
      select jsonb_agg(to_jsonb(g) order by g.kind, g.priority) from (
        select kind, priority, count(*) filter (where state = 'queued') as queued,
               count(*) filter (where state = 'running') as running, count(*) filter (where state = 'retrying') as retrying,
               count(*) filter (where state <> 'running' and sent_at is null) as waiting,
               coalesce(floor(extract(epoch from clock_timestamp()
                 - min(due_at) filter (where state <> 'running' and due_at <= clock_timestamp()))), 0)::bigint as "oldestSeconds",
               count(*) filter (where state = 'running' and lease_until < clock_timestamp()) as expired
          from worker.work_items where state in ('queued', 'running', 'retrying')
         group by kind, priority order by kind, priority limit 500) g), '[]'),
    'kinds', coalesce((
      select jsonb_agg(to_jsonb(k) order by k.kind) from (
        select kind, sum(accepted)::text as accepted, sum(succeeded)::text as succeeded,
               sum(dead - revived)::text as dead, sum(cancelled)::text as cancelled
          from worker.work_counters group by kind order by kind limit 500) k), '[]'))
$$;
revoke all on function worker.work_stats from public, anon, authenticated;
grant execute on function worker.work_stats to service_role;

-- Takes items of a kind from workers that let their lease run out. Those that go on are sent by work_sweep_waiting.
--   p_limit  1 .. 1000
--   returns  {recovered, ended: number of those that were recovered for the last time}
create or replace function worker.work_sweep_expired(p_kind text, p_limit int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_recovered int := 0;
  v_ended int := 0;
  v_id uuid;
begin
  for v_id in select id from worker.work_items
               where state = 'running' and lease_until < clock_timestamp() and kind = p_kind
               order by lease_until limit least(greatest(p_limit, 1), 1000) for update skip locked loop
    v_recovered := v_recovered + 1;
    v_ended := v_ended + (worker.work_recover(v_id, random()) <> 'retrying')::int;
  end loop;
  return jsonb_build_object('recovered', v_recovered, 'ended', v_ended);
end $$;
revoke all on function worker.work_sweep_expired from public, anon, authenticated;
grant execute on function worker.work_sweep_expired to service_role;

-- Sends items again whose message did not come back in time.
--   returns  [{id, kind, priority, delayMs}]
create or replace function worker.work_sweep_lost(p_kinds text[], p_limit int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  with lost as (
    select id from worker.work_items
     where sent_at is not null and state in ('queued', 'retrying') and resend_at < clock_timestamp() and kind = any (p_kinds)
     order by resend_at limit least(greatest(p_limit, 1), 1000) for update skip locked
  ), sent as (
    update worker.work_items w
       set sends = sends + 1, sent_at = clock_timestamp(), updated_at = clock_timestamp(),
           resend_at = worker.work_resend_at(clock_timestamp(), sends + 1)
     where w.id = any (array (select id from lost))
    returning w.id, w.kind, w.priority, w.rank)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'kind', kind, 'priority', priority, 'delayMs', 0) order by rank), '[]')
    from sent
$$;
revoke all on function worker.work_sweep_lost from public, anon, authenticated;
grant execute on function worker.work_sweep_lost to service_role;

-- Items that ended without success and whose feature may not know; each is given to one caller for 5 minutes.
--   returns  [{id, kind, version, payload, state, code}]
create or replace function worker.work_sweep_unsettled(p_kinds text[], p_limit int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  with due as (
    select id from worker.work_items
     where settle_at <= clock_timestamp() and state in ('dead', 'cancelled') and kind = any (p_kinds)
     order by settle_at limit least(greatest(p_limit, 1), 1000) for update skip locked
  ), taken as (
    update worker.work_items w set settle_at = clock_timestamp() + interval '5 minutes'
     where w.id = any (array (select id from due))
    returning w.*)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'kind', kind, 'version', version, 'payload', payload,
           'state', state, 'code', code)), '[]')
    from taken
$$;
revoke all on function worker.work_sweep_unsettled from public, anon, authenticated;
grant execute on function worker.work_sweep_unsettled to service_role;

-- Lets the next items of tenants into the storage queues whose turn would otherwise come with the end of another item.
--   p_running_max  {kind: items of a tenant that may run at once}
--   p_after        [kind, tenant] of the last tenant of the call before; null = from the first
--   p_limit        tenants of this call, 1 .. 500
--   returns        {send: [{id, kind, priority, delayMs}], next: p_after of the following call, null = that was all}
create or replace function worker.work_sweep_waiting(p_running_max jsonb, p_after text[] default null, p_limit int default 200)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_kind text := coalesce(p_after[1], '');
  v_tenant text := coalesce(p_after[2], '');
  v_send jsonb := '[]';
  v_more boolean;
begin
  for n in 1 .. least(greatest(p_limit, 1), 500) loop
    select kind, tenant into v_kind, v_tenant from worker.work_items
     where sent_at is null and state in ('queued', 'retrying') and (kind, tenant) > (v_kind, v_tenant)
     order by kind, tenant limit 1;
    v_more := found;
    exit when not found;
    continue when p_running_max ->> v_kind is null;
    perform worker.work_lock(v_kind, v_tenant);
    select v_send || coalesce(jsonb_agg(value || jsonb_build_object('kind', v_kind) order by ordinality), '[]') into v_send
      from jsonb_array_elements(worker.work_refill(v_kind, v_tenant, (p_running_max ->> v_kind)::int)) with ordinality;
  end loop;
  return jsonb_build_object('send', v_send, 'next', case when v_more then jsonb_build_array(v_kind, v_tenant) end);
end $$;
revoke all on function worker.work_sweep_waiting from public, anon, authenticated;
grant execute on function worker.work_sweep_waiting to service_role;
