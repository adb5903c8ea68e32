-- Why: the usage of a week and the runs of its jobs leave the database as files, for warehouses and for keeping.
-- Lock: the index on usage_ledger blocks its inserts while it is built: it reads the table once and writes a few pages.
--   A waiting booking is repeated by its queue.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Rows are inserted in the order of their booking, so the ranges of pages say enough, and inserting costs nothing.
create index if not exists usage_ledger_booked_at_idx on worker.usage_ledger
  using brin (booked_at) with (pages_per_range = 32, autosummarize = on);

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

-- Begins an export or goes on with one. Whoever worked on it before may not write any more. What is in it was decided
-- when it began: its format, and which ledger rows were booked in the week.
--   returns  {status: open, attempt, format, ledgerAfter, ledgerTo, files: [{name, path, rows, bytes, contentBytes,
--            sha256}]} | {status: finished}; numbers of rows and bytes as text
create or replace function worker.export_open(p_week date, p_format text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  e worker.exports;
begin
  insert into worker.exports as x (week, format, ledger_after, ledger_to)
  select p_week, p_format, coalesce(min(id), 1) - 1, coalesce(max(id), 0)
    from worker.usage_ledger
   where booked_at >= p_week::timestamp at time zone 'UTC'
     and booked_at < (p_week + 7)::timestamp at time zone 'UTC'
  on conflict on constraint exports_pkey do update set attempt = x.attempt + 1 where x.state = 'running'
  returning * into e;
  if not found then
    return jsonb_build_object('status', 'finished');
  end if;
  return jsonb_build_object('status', 'open', 'attempt', e.attempt, 'format', e.format,
    'ledgerAfter', e.ledger_after::text, 'ledgerTo', e.ledger_to::text,
    'files', coalesce((
      select jsonb_agg(jsonb_build_object('name', name, 'path', path, 'rows', rows::text, 'bytes', bytes::text,
               'contentBytes', content_bytes::text, 'sha256', sha256) order by name)
        from worker.export_files where week = p_week), '[]'));
end $$;
revoke all on function worker.export_open from public, anon, authenticated;
grant execute on function worker.export_open to service_role;

-- Remembers that a file is complete in the storage.
--   returns  {status: kept} | {status: stale}: somebody else went on with the export
create or replace function worker.export_keep_file(p_week date, p_attempt int, p_name text, p_path text, p_rows bigint,
  p_bytes bigint, p_content_bytes bigint, p_sha256 text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  perform from worker.exports where week = p_week and attempt = p_attempt and state = 'running' for update;
  if not found then
    return jsonb_build_object('status', 'stale');
  end if;
  insert into worker.export_files (week, name, path, rows, bytes, content_bytes, sha256)
  values (p_week, p_name, p_path, p_rows, p_bytes, p_content_bytes, p_sha256)
  on conflict on constraint export_files_pkey do update
    set path = excluded.path, rows = excluded.rows, bytes = excluded.bytes, content_bytes = excluded.content_bytes,
        sha256 = excluded.sha256, finished_at = now();
  return jsonb_build_object('status', 'kept');
end $$;
revoke all on function worker.export_keep_file from public, anon, authenticated;
grant execute on function worker.export_keep_file to service_role;

-- Ends an export whose manifest is in the storage.
--   returns  {status: finished} | {status: stale}: somebody else went on with it, or it is finished
create or replace function worker.export_finish(p_week date, p_attempt int, p_manifest jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.exports set state = 'finished', finished_at = now(), manifest = p_manifest
   where week = p_week and attempt = p_attempt and state = 'running';
  return jsonb_build_object('status', case when found then 'finished' else 'stale' end);
end $$;
revoke all on function worker.export_finish from public, anon, authenticated;
grant execute on function worker.export_finish to service_role;

-- Exports, newest first.
--   p_before  only older weeks; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{week, format, state, files, rows, bytes, startedAt, finishedAt}], next}; numbers of rows and
--             bytes as text, next = p_before of the following page or null
create or replace function worker.export_list(p_before date default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select e.*, f.files, f.rows, f.bytes
      from worker.exports e
      cross join lateral (
        select count(*) as files, coalesce(sum(rows), 0) as rows, coalesce(sum(bytes), 0) as bytes
          from worker.export_files where week = e.week) as f
     where p_before is null or e.week < p_before
     order by e.week desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('week', week, 'format', format, 'state', state, 'files', files,
        'rows', rows::text, 'bytes', bytes::text, 'startedAt', started_at, 'finishedAt', finished_at)
        order by week desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(week) end)
    from page
$$;
revoke all on function worker.export_list from public, anon, authenticated;
grant execute on function worker.export_list to service_role;

-- One finished export.
--   returns  its manifest; null = there is none, or it is not finished
create or replace function worker.export_read(p_week date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select manifest from worker.exports where week = p_week
$$;
revoke all on function worker.export_read from public, anon, authenticated;
grant execute on function worker.export_read to service_role;

-- A page of the uses of a day, as far as they are booked, in the order of their key.
--   p_after  uid of the last row of the page before; null = from the first
--   returns  {rows: [[day, uid, tenant, period, token_type, model, agent_id, conversation_id, tokens, batch_id]], next}
create or replace function worker.export_read_events(p_day date, p_after uuid, p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_events
     where day = p_day and (p_after is null or uid > p_after)
     order by uid limit p_limit)
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_array(day, uid, tenant, period, token_type, model, agent_id,
        conversation_id, tokens::text, batch_id::text) order by uid), '[]'),
      'next', case when count(*) = p_limit then (array_agg(uid order by uid desc))[1] end)
    from page
$$;
revoke all on function worker.export_read_events from public, anon, authenticated;
grant execute on function worker.export_read_events to service_role;

-- A page of ledger rows that were booked in a week.
--   p_week        its first day
--   p_after, p_to ids: after < id <= to
--   returns  {rows: [[id, booked_at, tenant, period, usage_period, token_type, model, tokens, events, reason, lane,
--            batch_id]], next}; next = p_after of the following page or null
create or replace function worker.export_read_ledger(p_week date, p_after bigint, p_to bigint, p_limit int)
returns jsonb language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.usage_ledger
     where id > p_after and id <= p_to
       and booked_at >= p_week::timestamp at time zone 'UTC'
       and booked_at < (p_week + 7)::timestamp at time zone 'UTC'
     order by id limit p_limit)
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_array(id::text, booked_at, tenant, period, usage_period, token_type, model,
        tokens::text, events, reason, lane, batch_id::text) order by id), '[]'),
      'next', case when count(*) = p_limit then max(id)::text end)
    from page
$$;
revoke all on function worker.export_read_ledger from public, anon, authenticated;
grant execute on function worker.export_read_ledger to service_role;

-- A page of the totals of some months.
--   p_periods     months, yyyymm
--   p_after       [tenant, period] of the last row of the page before; null = from the first
--   returns  {rows: [[tenant, period, tokens, events, late, future, legacy]], next}
create or replace function worker.export_read_totals(p_periods int[], p_after jsonb, p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_totals
     where period = any (p_periods)
       and (p_after is null or (tenant, period) > ((p_after ->> 0) collate "C", (p_after ->> 1)::int))
     order by tenant, period limit p_limit)
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_array(tenant, period, tokens::text, events::text, late::text, future::text,
        legacy::text) order by tenant, period), '[]'),
      'next', case when count(*) = p_limit
                   then (array_agg(jsonb_build_array(tenant, period) order by tenant desc, period desc))[1] end)
    from page
$$;
revoke all on function worker.export_read_totals from public, anon, authenticated;
grant execute on function worker.export_read_totals to service_role;

-- A page of the runs of jobs that began in a week, or would have.
--   p_week   its first day
--   p_after  [instant, id] of the last row of the page before; null = from the first
--   returns  {rows: [[id, job_id, slot_at, trigger, status, reason, started_at, finished_at, duration_ms, late_ms,
--            attempt, error_code]], next}
create or replace function worker.export_read_runs(p_week date, p_after jsonb, p_limit int) returns jsonb
language plpgsql stable security invoker set search_path = '' set timezone = 'UTC' as $$
begin
  return (
    with page as (
      select * from worker.job_runs
       where due_at >= p_week::timestamp at time zone 'UTC' and due_at < (p_week + 7)::timestamp at time zone 'UTC'
         and (p_after is null or (due_at, id) > ((p_after ->> 0)::timestamptz, (p_after ->> 1)::uuid))
       order by due_at, id limit p_limit)
    select jsonb_build_object(
        'rows', coalesce(jsonb_agg(jsonb_build_array(id, job_id, slot_at, trigger, status, reason, started_at,
          finished_at, duration_ms, late_ms, attempt, error_code) order by due_at, id), '[]'),
        'next', case when count(*) = p_limit
                     then (array_agg(jsonb_build_array(due_at, id) order by due_at desc, id desc))[1] end)
      from page);
end $$;
revoke all on function worker.export_read_runs from public, anon, authenticated;
grant execute on function worker.export_read_runs to service_role;
