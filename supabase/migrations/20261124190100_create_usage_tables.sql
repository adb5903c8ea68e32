-- Why: the usage ledger: cursors, events, ledger, totals, findings.
-- Lock: new tables only.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: does not know these tables.

-- Where each shard's log has been read to, and what is known about the logs themselves.
-- Names of the protocol: inc = lineage of a log, n = number of an entry, cum and count = running sum of the tokens and
-- running number of the records after an entry, anchor = `<uid>@<recordedUs>` of an entry.

-- The only cursor. It lives next to the effect and moves in the same transaction.
create table if not exists worker.usage_shards (
  shard int not null,
  inc text not null default '',            -- '' = this shard was never read
  n bigint not null default 0,             -- last applied entry
  cum numeric,                             -- null from a fork until the first entry of the new lineage
  count bigint,
  anchor text,                             -- null when entry n is no record; the next read starts AT this entry
  base_n bigint not null default 0,        -- how far the log of this lineage was already applied when it was adopted
  base_cum numeric not null default 0,
  trimmed_n bigint not null default 0,     -- entries before it were removed from Redis
  fence bigint not null default 0,         -- number of the last lease
  forks int not null default 0,            -- lineages adopted so far; identifies one visit of a lineage
  lease_owner text,
  lease_until timestamptz,
  updated_at timestamptz not null default now(),
  constraint usage_shards_pkey primary key (shard),
  constraint usage_shards_shard_check check (shard between 0 and 65535),
  constraint usage_shards_n_check check (n >= 0 and trimmed_n between 0 and n)
) with (fillfactor = 50);
alter table worker.usage_shards enable row level security;
grant select, insert, update, delete on worker.usage_shards to service_role;

-- How each lineage ended. One row per visit: a restored snapshot can bring a lineage back.
create table if not exists worker.usage_lineages (
  shard int not null,
  fork int not null,                       -- usage_shards.forks while it was current
  inc text not null,
  last_n bigint not null,                  -- applied up to here
  last_cum numeric,
  last_count bigint,
  cause text not null,
  ended_at timestamptz not null default now(),
  constraint usage_lineages_pkey primary key (shard, fork),
  constraint usage_lineages_cause_check check (
    cause in ('first', 'lineage_changed', 'redis_flushed', 'redis_rewound', 'anchor_mismatch'))
);
create index if not exists usage_lineages_inc_idx on worker.usage_lineages (shard, inc);
alter table worker.usage_lineages enable row level security;
grant select, insert, update, delete on worker.usage_lineages to service_role;

-- The observer: how far each log once was, remembered outside Redis. Removed when its lineage ends.
create table if not exists worker.usage_observations (
  shard int not null,
  inc text not null,
  n bigint not null,
  cum numeric not null,
  count bigint,
  observed_at timestamptz not null default now(),
  constraint usage_observations_pkey primary key (shard, inc)
) with (fillfactor = 70);
alter table worker.usage_observations enable row level security;
grant select, insert, update, delete on worker.usage_observations to service_role;

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
  constraint usage_batches_pkey primary key (batch_id),
  constraint usage_batches_position_key unique (shard, fork, from_n),
  constraint usage_batches_range_check check (to_n >= from_n)
);
create index if not exists usage_batches_applied_at_idx on worker.usage_batches (shard, fork, applied_at);
create index if not exists usage_batches_run_id_idx on worker.usage_batches (run_id, shard) where run_id is not null;
alter table worker.usage_batches enable row level security;
grant select, insert, update on worker.usage_batches to service_role;

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
  reason text not null,                    -- late: happened in a closed month. future: claims to lie ahead
  note jsonb,
  booked_at timestamptz not null default now(),
  constraint usage_ledger_pkey primary key (id),
  constraint usage_ledger_tenant_check check (tenant <> ''),
  constraint usage_ledger_period_check check (
    period between 200001 and 999912 and period % 100 between 1 and 12
    and usage_period between 200001 and 999912 and usage_period % 100 between 1 and 12),
  constraint usage_ledger_token_type_check check (token_type in ('llm', 'embedding')),
  constraint usage_ledger_reason_check check (reason in ('usage', 'late', 'future') or reason like 'adjust:_%')
);
create index if not exists usage_ledger_period_tenant_idx on worker.usage_ledger (period, tenant);
-- What happened in a month and is billed in another.
create index if not exists usage_ledger_moved_idx on worker.usage_ledger (usage_period, tenant)
  where usage_period <> period;
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
  constraint usage_totals_pkey primary key (tenant, period)
) with (fillfactor = 70);
alter table worker.usage_totals enable row level security;
grant select, insert, update on worker.usage_totals to service_role;

-- A month without a row is open. A closed month never changes again.
create table if not exists worker.usage_periods (
  period int not null,
  state text not null default 'open',
  closed_at timestamptz,
  constraint usage_periods_pkey primary key (period),
  constraint usage_periods_period_check check (period between 200001 and 999912 and period % 100 between 1 and 12),
  constraint usage_periods_state_check check (state in ('open', 'closing', 'closed'))
);
alter table worker.usage_periods enable row level security;
grant select, insert, update, delete on worker.usage_periods to service_role;

-- What could not be booked, and what is known to be missing.

-- Entries set aside, with their raw text. Nothing here was counted.
create table if not exists worker.usage_quarantine (
  id bigint generated always as identity,
  shard int not null,
  inc text not null,
  n bigint not null,                       -- 0 = the position is not known (duplicate_with_other_amount)
  tenant text collate "C",                 -- null when it could not be read
  period int,
  tokens numeric,                          -- its amount, when the running sum counts it
  raw text not null,
  error text not null,
  detected_at timestamptz not null default now(),
  resolved_at timestamptz,
  resolution text,
  constraint usage_quarantine_pkey primary key (id),
  constraint usage_quarantine_resolution_check check ((resolved_at is null) = (resolution is null))
);
-- Not by lineage: after a fork the same entry is read again and must not be set aside twice.
create unique index if not exists usage_quarantine_entry_idx on worker.usage_quarantine (shard, n, md5(raw));
create index if not exists usage_quarantine_tenant_idx on worker.usage_quarantine (tenant, period)
  where resolved_at is null and tenant is not null;
alter table worker.usage_quarantine enable row level security;
grant select, insert, update on worker.usage_quarantine to service_role;

-- Lost and not yet recovered. The open amount is tokens_lost - recovered; negative when credits were lost.
create table if not exists worker.usage_gaps (
  id bigint generated always as identity,
  shard int not null,
  inc text not null,
  from_n bigint not null,
  to_n bigint not null,
  tokens_lost numeric not null,
  recovered numeric not null default 0,
  entries_lost bigint,                     -- null when no witness counted
  entries_recovered bigint not null default 0,
  cause text not null,
  detected_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint usage_gaps_pkey primary key (id),
  constraint usage_gaps_cause_check check (cause in ('redis_rewind', 'missing_entries'))
);
-- Several producers and the observer may report the same rewind; the one that had seen most stands.
create unique index if not exists usage_gaps_rewind_idx on worker.usage_gaps (shard, inc, from_n)
  where cause = 'redis_rewind';
alter table worker.usage_gaps enable row level security;
grant select, insert, update on worker.usage_gaps to service_role;
