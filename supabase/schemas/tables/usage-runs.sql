-- Reconciliation runs and what became of each planned shard.

create table if not exists worker.usage_runs (
  run_id uuid not null,
  job text not null,
  trigger text not null,
  status text not null default 'planned',
  tracking boolean not null,               -- was usage tracking switched on
  shards int not null,
  pending bigint not null,                 -- records waiting when the run was planned, an estimate after a rewind
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint usage_runs_pkey primary key (run_id),
  constraint usage_runs_status_check check (status in ('planned', 'running', 'succeeded', 'failed')),
  constraint usage_runs_finished_check check ((finished_at is not null) = (status in ('succeeded', 'failed')))
);
create index if not exists usage_runs_started_at_idx on worker.usage_runs (started_at desc);
create index if not exists usage_runs_job_idx on worker.usage_runs (job, started_at desc);
alter table worker.usage_runs enable row level security;
grant select, insert, update, delete on worker.usage_runs to service_role;

create table if not exists worker.usage_run_shards (
  run_id uuid not null,
  shard int not null,
  state text not null default 'planned',
  pending bigint not null,
  applied bigint not null default 0,
  dup bigint not null default 0,
  bad bigint not null default 0,
  tokens numeric not null default 0,
  batches int not null default 0,
  error_code text,
  updated_at timestamptz not null default now(),
  constraint usage_run_shards_pkey primary key (run_id, shard),
  constraint usage_run_shards_run_id_fkey foreign key (run_id) references worker.usage_runs (run_id) on delete cascade,
  constraint usage_run_shards_state_check check (state in ('planned', 'running', 'done', 'failed')),
  constraint usage_run_shards_pending_check check (pending >= 0)
) with (fillfactor = 70);
alter table worker.usage_run_shards enable row level security;
grant select, insert, update, delete on worker.usage_run_shards to service_role;
