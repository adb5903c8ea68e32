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
  lane text not null default 'log',
  resolved_by text,                        -- who decided, and why
  resolved_reason text,
  constraint usage_quarantine_pkey primary key (id),
  constraint usage_quarantine_resolution_check check ((resolved_at is null) = (resolution is null)),
  constraint usage_quarantine_lane_check check (lane in ('log', 'legacy_pending'))
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
  after_anchor text,                       -- `<uid>@<recordedUs>` of the entry before missing entries
  constraint usage_gaps_pkey primary key (id),
  constraint usage_gaps_cause_check check (cause in ('redis_rewind', 'missing_entries'))
);
-- Several producers and the observer may report the same rewind; the one that had seen most stands.
create unique index if not exists usage_gaps_rewind_idx on worker.usage_gaps (shard, inc, from_n)
  where cause = 'redis_rewind';
alter table worker.usage_gaps enable row level security;
grant select, insert, update on worker.usage_gaps to service_role;
