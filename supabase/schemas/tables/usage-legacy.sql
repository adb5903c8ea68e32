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
