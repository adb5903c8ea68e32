-- Scheduled jobs and their occurrence ledger. Every planned slot of a job and every manual run has exactly one row, so
-- that what did not run is as visible as what did.
create table if not exists worker.jobs (
  id text not null,
  schedule text not null,                  -- of the registry, as the version that spoke last has it
  time_zone text not null,
  overlap text not null,
  catch_up text not null,
  latest_start_ms bigint not null,
  timeout_ms bigint not null,
  attempts_max int not null,               -- of one slot, by failures; crashes are counted apart
  is_critical boolean not null,
  planned_from timestamptz not null,       -- slots up to here are nobody's: first registration, or a changed schedule
  last_slot_at timestamptz,                -- newest slot with a row
  last_tick_at timestamptz,                -- when the job's own timer last fired, whatever came of it
  fence bigint not null default 0,         -- of the newest claim of any of its runs
  is_enabled boolean not null default true,
  disabled_at timestamptz,
  disabled_by text,
  disabled_reason text,
  enabled_at timestamptz,                  -- when it was last enabled again
  enabled_by text,
  constraint jobs_pkey primary key (id),
  constraint jobs_id_check check (id ~ '^[a-z][a-z0-9_]{1,60}$'),
  constraint jobs_overlap_check check (overlap in ('skip', 'allow')),
  constraint jobs_catch_up_check check (catch_up in ('skip', 'once', 'all')),
  constraint jobs_limits_check check (latest_start_ms > 0 and timeout_ms > 0 and attempts_max between 1 and 20),
  constraint jobs_disabled_check check (is_enabled or disabled_at is not null)
);
alter table worker.jobs enable row level security;
grant select, insert, update on worker.jobs to service_role;

-- One row for each planned slot and each manual run. A row that ended is never started again.
create table if not exists worker.job_runs (
  id uuid not null default gen_random_uuid(),
  job_id text not null,
  slot_at timestamptz,                     -- the planned instant; null = started by hand
  due_at timestamptz not null,             -- slot_at, or when it was asked for: the order of the history
  trigger text not null,
  status text not null,
  reason text,                             -- code: why it is in this status
  reason_text text,
  fence bigint not null default 0,         -- of its newest claim; rises with every claim of the job
  attempt int not null default 0,          -- claims so far
  failures int not null default 0,
  crashes int not null default 0,          -- claims that ended without a word
  stale_attempts int not null default 0,   -- writes refused because somebody else had claimed the run
  claimed_by text,                         -- instance
  start_after timestamptz,                 -- queued: not before
  sent_at timestamptz,                     -- queued: when a message was last sent for it
  started_at timestamptz,                  -- of the newest attempt
  heartbeat_at timestamptz,
  lease_until timestamptz,                 -- running: dead when this passes
  finished_at timestamptz,
  duration_ms bigint,                      -- of the newest attempt
  late_ms bigint,                          -- first start after the slot
  skew_ms bigint,                          -- clock of the instance that claimed it minus that of the database
  progress jsonb,
  report jsonb,
  error_code text,                         -- of the newest attempt that failed
  error_text text,
  covered_by uuid,                         -- caught_up: the run that did its work
  idempotency_key text,
  requested_by text,
  requested_reason text,
  cancel_requested_at timestamptz,
  cancel_requested_by text,
  cancel_reason text,
  recorded_at timestamptz not null default now(),
  constraint job_runs_pkey primary key (id),
  constraint job_runs_job_id_fkey foreign key (job_id) references worker.jobs (id),
  constraint job_runs_slot_key unique (job_id, slot_at),
  constraint job_runs_idempotency_key unique (job_id, idempotency_key),
  constraint job_runs_trigger_check check (trigger in ('schedule', 'catch_up', 'manual')),
  constraint job_runs_status_check check (status in
    ('queued', 'running', 'succeeded', 'failed', 'skipped', 'caught_up', 'missed', 'abandoned', 'cancelled')),
  constraint job_runs_slot_check check ((trigger = 'manual') = (slot_at is null)),
  constraint job_runs_ended_check check ((status in ('queued', 'running')) = (finished_at is null)),
  constraint job_runs_running_check check (status <> 'running' or (lease_until is not null and started_at is not null)),
  constraint job_runs_size_check check (length(report::text) <= 16384 and length(progress::text) <= 16384
    and length(error_text) <= 500 and length(reason_text) <= 500)
);
create index if not exists job_runs_due_at_idx on worker.job_runs (job_id, due_at desc, id desc);
create index if not exists job_runs_open_idx on worker.job_runs (job_id, status) where status in ('queued', 'running');
create index if not exists job_runs_decisive_idx on worker.job_runs (job_id, due_at desc)
  where status in ('succeeded', 'failed', 'missed', 'abandoned');
create index if not exists job_runs_finished_at_idx on worker.job_runs (finished_at) where finished_at is not null;
alter table worker.job_runs enable row level security;
grant select, insert, update, delete on worker.job_runs to service_role;
