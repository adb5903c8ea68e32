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
