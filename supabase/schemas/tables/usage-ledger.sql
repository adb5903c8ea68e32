-- What was used, by whom, when, and in which month it is billed. Tenant ids are not foreign keys: deleting a tenant
-- must not delete what it owes. Indexed tenant ids compare by bytes, which is several times cheaper than a language.

-- One row per applied batch: the backbone of every explanation. (shard, fork, from_n) is the identity of a batch; it
-- is derived, never random, so that the same part of the log can never be applied as two batches.
create table if not exists worker.usage_batches (
  batch_id bigint generated always as identity,
  shard int not null,
  fork int not null,
  inc text not null,
  from_n bigint not null,
  to_n bigint not null,
  seen int not null,                       -- well-formed records: seen = applied + dup
  applied int not null,
  dup int not null,
  conflicting int not null,                -- part of dup that came with another amount
  bad int not null,                        -- entries set aside
  tokens numeric not null,                 -- of the applied records
  fence bigint,
  worker text,
  run_id uuid,
  applied_at timestamptz not null default clock_timestamp(),
  reverted_at timestamptz,                 -- taken back, by whom and why
  reverted_by text,
  revert_reason text,
  lane text not null default 'log',        -- of a legacy lane: one row per shard and day of booking, from_n = that day
  constraint usage_batches_pkey primary key (batch_id),
  constraint usage_batches_position_key unique (shard, fork, from_n),
  constraint usage_batches_range_check check (to_n >= from_n),
  constraint usage_batches_lane_check check (lane in ('log', 'legacy_pending', 'legacy_direct', 'legacy_counter'))
);
create index if not exists usage_batches_applied_at_idx on worker.usage_batches (shard, fork, applied_at);
create index if not exists usage_batches_run_id_idx on worker.usage_batches (run_id, shard) where run_id is not null;
create index if not exists usage_batches_lane_idx on worker.usage_batches (lane, from_n) where lane <> 'log';
alter table worker.usage_batches enable row level security;
grant select, insert, update, delete on worker.usage_batches to service_role;

-- Dedupe and evidence. The day of occurrence is part of the key, so that the same event always meets the same
-- partition; the same uid on another day is another event. Column order avoids padding.
create table if not exists worker.usage_events (
  day date not null,
  period int not null,                     -- yyyymm it happened in
  tokens bigint not null,
  batch_id bigint not null,
  uid uuid not null,
  tenant text not null,
  token_type text not null,
  model text not null,                     -- '' = unknown
  agent_id text,
  conversation_id text,
  constraint usage_events_pkey primary key (day, uid)
) partition by range (day);
alter table worker.usage_events enable row level security;
grant select, insert on worker.usage_events to service_role;

-- Takes the days that nobody made a partition for; usage_ensure_days moves them out again.
create table if not exists worker.usage_events_default partition of worker.usage_events default;
alter table worker.usage_events_default enable row level security;
grant select on worker.usage_events_default to service_role; -- which days are in it

-- Append only: a correction is another row.
create table if not exists worker.usage_ledger (
  id bigint generated always as identity,
  batch_id bigint,                         -- null for adjustments
  tenant text collate "C" not null,
  period int not null,                     -- yyyymm it is billed in
  usage_period int not null,               -- yyyymm it happened in
  token_type text,                         -- null for adjustments that cannot know
  model text,
  tokens numeric not null,
  events int not null,
  reason text not null,                    -- late: happened in a closed month. future: claims to lie
                                           -- ahead. backfill: of old months, booked afterwards
  note jsonb,
  booked_at timestamptz not null default now(),
  lane text not null default 'log',        -- how the use came in; the counters of the log know lane log only
  constraint usage_ledger_pkey primary key (id),
  constraint usage_ledger_tenant_check check (tenant <> ''),
  constraint usage_ledger_period_check check (
    period between 200001 and 999912 and period % 100 between 1 and 12
    and usage_period between 200001 and 999912 and usage_period % 100 between 1 and 12),
  constraint usage_ledger_token_type_check check (token_type in ('llm', 'embedding')),
  constraint usage_ledger_reason_check
    check (reason in ('usage', 'late', 'future', 'backfill') or reason like 'adjust:_%'),
  constraint usage_ledger_lane_check
    check (lane in ('log', 'legacy_pending', 'legacy_direct', 'legacy_counter', 'adjust'))
);
create index if not exists usage_ledger_period_tenant_idx on worker.usage_ledger (period, tenant);
-- What happened in a month and is billed in another.
create index if not exists usage_ledger_moved_idx on worker.usage_ledger (usage_period, tenant)
  where usage_period <> period;
create index if not exists usage_ledger_moved_to_idx on worker.usage_ledger (period, tenant)
  where usage_period <> period;
-- A correction that names its key can be booked once.
create unique index if not exists usage_ledger_adjustment_idx on worker.usage_ledger ((note ->> 'key'))
  where note ? 'key';
-- The rows of a batch lie together, so the ranges of pages say enough, and inserting costs nothing.
create index if not exists usage_ledger_batch_id_idx on worker.usage_ledger
  using brin (batch_id) with (pages_per_range = 32, autosummarize = on);
-- The same holds for the time of booking.
create index if not exists usage_ledger_booked_at_idx on worker.usage_ledger
  using brin (booked_at) with (pages_per_range = 32, autosummarize = on);
alter table worker.usage_ledger enable row level security;
grant select, insert on worker.usage_ledger to service_role;

-- The sum of the ledger by tenant and billed month, kept in the same transaction.
create table if not exists worker.usage_totals (
  tenant text collate "C" not null,
  period int not null,
  tokens numeric not null default 0,
  events bigint not null default 0,
  late numeric not null default 0,         -- part of tokens that happened in an earlier, closed month
  future numeric not null default 0,       -- part of tokens that claims to have happened in a later month
  shard int not null,
  updated_at timestamptz not null default now(),
  legacy numeric not null default 0,       -- part of tokens that came through a legacy lane
  constraint usage_totals_pkey primary key (tenant, period)
) with (fillfactor = 70);
alter table worker.usage_totals enable row level security;
grant select, insert, update on worker.usage_totals to service_role;
create index if not exists usage_totals_shard_idx on worker.usage_totals (shard, period, tenant);

-- A month without a row is open. A closed month never changes again.
create table if not exists worker.usage_periods (
  period int not null,
  state text not null default 'open',
  closed_at timestamptz,
  closing_at timestamptz,
  grace_until timestamptz,                 -- late uses are its own until then
  held_by jsonb not null default '[]',     -- what kept it from being closed at checked_at
  checked_at timestamptz,
  closed_by text,
  reason text,                             -- why, when a person closed it
  despite text[] not null default '{}',    -- what that person overruled
  seal_next int not null default 0,        -- shards before it are sealed
  sealed_at timestamptz,                   -- from here on, what the month was when it was closed
  tenants bigint,
  tokens numeric,
  events bigint,
  checksum text,                           -- sha256, as hex, over the lines "<shard><tab><checksum><line feed>" of
                                           -- usage_period_shards in order of the shard
  constraint usage_periods_pkey primary key (period),
  constraint usage_periods_period_check check (period between 200001 and 999912 and period % 100 between 1 and 12),
  constraint usage_periods_state_check check (state in ('open', 'closing', 'closed'))
);
alter table worker.usage_periods enable row level security;
grant select, insert, update, delete on worker.usage_periods to service_role;
