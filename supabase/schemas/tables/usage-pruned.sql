-- What is left of events whose day was dropped: sums, so that an audit does not miss them.
create table if not exists worker.usage_pruned (
  period int not null,                     -- it happened in
  tenant text collate "C" not null,
  shard int not null,
  tokens numeric not null,
  events bigint not null,
  constraint usage_pruned_pkey primary key (period, tenant)
) with (fillfactor = 70);
alter table worker.usage_pruned enable row level security;
grant select on worker.usage_pruned to service_role;

-- Which days were dropped, and when.
create table if not exists worker.usage_pruned_days (
  day date not null,
  events bigint not null,
  tokens numeric not null,
  pruned_at timestamptz not null default now(),
  constraint usage_pruned_days_pkey primary key (day)
);
alter table worker.usage_pruned_days enable row level security;
grant select on worker.usage_pruned_days to service_role;
