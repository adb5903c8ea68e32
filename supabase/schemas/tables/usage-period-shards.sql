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
