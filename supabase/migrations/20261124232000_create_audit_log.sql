-- Why: who changed what through the management API, when and why, in one table for all features.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

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

-- Notes one change in the audit log. Other SQL functions call it in the transaction of the change, so that there is no
-- change without its row and no row without its change.
--   p_actor       name of the key or identity that asked for it
--   p_action      <feature>_<verb>, such as job_disable
--   p_subject     <kind>:<id> of what was changed
--   p_reason      why, in the actor's words; null = no reason was asked for
--   p_details     {before, after, …}: ids, states, counts, at most 16 KiB; never content
--   p_request_id  runId of the request
--   returns  id of the row, as text
create or replace function worker.audit_write(p_actor text, p_action text, p_subject text, p_reason text,
  p_details jsonb default '{}', p_request_id text default null) returns text
language sql volatile security invoker set search_path = '' as $$
  insert into worker.audit_log (actor, action, subject, reason, details, request_id)
  values (p_actor, p_action, p_subject, p_reason, coalesce(p_details, '{}'), p_request_id)
  returning id::text
$$;
revoke all on function worker.audit_write from public, anon, authenticated;
grant execute on function worker.audit_write to service_role;

-- What was changed, newest first.
--   p_actor, p_action, p_subject  only those; null = all
--   p_before  id of the last row of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{id, at, actor, action, subject, reason, requestId, details}], next}; ids as text, next = p_before of
--             the following page or null
create or replace function worker.audit_read(p_actor text default null, p_action text default null,
  p_subject text default null, p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.audit_log
     where (p_actor is null or actor = p_actor) and (p_action is null or action = p_action)
       and (p_subject is null or subject = p_subject) and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'at', occurred_at, 'actor', actor, 'action', action,
        'subject', subject, 'reason', reason, 'requestId', request_id, 'details', details) order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.audit_read from public, anon, authenticated;
grant execute on function worker.audit_read to service_role;
