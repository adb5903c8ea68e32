-- Exports and their files.

-- Exports, one for each week.
create table if not exists worker.exports (
  week date not null,                      -- its first day, a Sunday, in UTC
  format text not null,
  state text not null default 'running',
  attempt int not null default 1,          -- rises whenever somebody begins or goes on: who came before may not write
  ledger_after bigint not null,            -- the ledger rows of the week: after < id <= to
  ledger_to bigint not null,
  manifest jsonb,                          -- as it is in the storage
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint exports_pkey primary key (week),
  constraint exports_format_check check (format in ('ndjson', 'csv')),
  constraint exports_state_check check (state in ('running', 'finished')),
  constraint exports_finished_check check (
    (state = 'finished') = (finished_at is not null) and (state = 'finished') = (manifest is not null))
);
alter table worker.exports enable row level security;
grant select, insert, update, delete on worker.exports to service_role;

-- Files of an export that are complete in the storage.
create table if not exists worker.export_files (
  week date not null,
  name text not null,
  path text not null,                      -- in the storage; another one with each attempt
  rows bigint not null,
  bytes bigint not null,                   -- as stored
  content_bytes bigint not null,           -- before it was compressed
  sha256 text not null,                    -- of the bytes as stored
  finished_at timestamptz not null default now(),
  constraint export_files_pkey primary key (week, name),
  constraint export_files_week_fkey foreign key (week) references worker.exports (week) on delete cascade,
  constraint export_files_sha256_check check (sha256 ~ '^[0-9a-f]{64}$')
);
alter table worker.export_files enable row level security;
grant select, insert, update, delete on worker.export_files to service_role;
