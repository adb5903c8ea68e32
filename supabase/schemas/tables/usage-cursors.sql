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
  consolidated_at timestamptz,             -- when the counters last agreed with the ledger, or were made to
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
  anchor text,                             -- `<uid>@<recordedUs>` of entry n; null when that is no record
  constraint usage_observations_pkey primary key (shard, inc)
) with (fillfactor = 70);
alter table worker.usage_observations enable row level security;
grant select, insert, update, delete on worker.usage_observations to service_role;
