-- What people and other services changed through the management API: who, when, why, what. Rows are only added.
create table if not exists worker.audit_log (
  id bigint generated always as identity,
  occurred_at timestamptz not null default clock_timestamp(),
  actor text not null,                     -- name of the key, or of the Entra identity
  action text not null,                    -- <feature>_<verb>, such as job_disable
  subject text not null,                   -- <kind>:<id> of what was changed
  reason text,                             -- why, in the actor's words
  request_id text,                         -- runId of the request: finds its line in the log
  details jsonb not null default '{}',     -- {before, after, …}: ids, states, counts; never content
  constraint audit_log_pkey primary key (id),
  constraint audit_log_actor_check check (length(actor) between 1 and 200),
  constraint audit_log_action_check check (action ~ '^[a-z][a-z0-9_]{2,62}$'),
  constraint audit_log_subject_check check (length(subject) between 1 and 400),
  constraint audit_log_reason_check check (length(reason) <= 1000),
  constraint audit_log_request_id_check check (length(request_id) <= 100),
  constraint audit_log_details_check check (jsonb_typeof(details) = 'object' and length(details::text) <= 16384)
);
create index if not exists audit_log_subject_idx on worker.audit_log (subject, id desc);
create index if not exists audit_log_actor_idx on worker.audit_log (actor, id desc);
create index if not exists audit_log_action_idx on worker.audit_log (action, id desc);
alter table worker.audit_log enable row level security;
grant select, insert on worker.audit_log to service_role;
