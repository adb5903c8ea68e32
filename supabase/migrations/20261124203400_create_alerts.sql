-- Why: what an operator should know, once: reports of one thing are one incident, with a notice when it begins, gets worse
--   or ends.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- What an operator should know. One row for each incident: while it is open, everything that is reported under its key
-- is counted here.
create table if not exists worker.alerts (
  id bigint generated always as identity,
  key text not null,                       -- <kind>[:<subject>]
  kind text not null,
  level text not null,
  state text not null default 'firing',
  title text not null,
  runbook text not null,                   -- page of the documentation
  value numeric,                           -- how bad it is, in the unit of its kind; null = cannot be measured
  threshold numeric,                       -- above which it is reported
  evidence jsonb not null default '{}',
  count bigint not null default 1,         -- reports so far
  first_seen timestamptz not null,
  last_seen timestamptz not null,
  noticed_at timestamptz not null,         -- the last notice, and how bad it was then
  noticed_level text not null,
  noticed_value numeric,
  acknowledged_at timestamptz,
  acknowledged_by text,
  acknowledged_reason text,
  resolved_at timestamptz,
  constraint alerts_pkey primary key (id),
  constraint alerts_key_check check (length(key) between 1 and 400 and kind = split_part(key, ':', 1) and kind <> ''),
  constraint alerts_level_check check (level in ('info', 'warning', 'critical')),
  constraint alerts_state_check check (state in ('firing', 'acknowledged', 'resolved')),
  constraint alerts_noticed_level_check check (noticed_level in ('info', 'warning', 'critical')),
  constraint alerts_resolved_check check ((state = 'resolved') = (resolved_at is not null)),
  constraint alerts_acknowledged_check check (state <> 'acknowledged' or acknowledged_at is not null)
);
create unique index if not exists alerts_open_idx on worker.alerts (key) where resolved_at is null;
create index if not exists alerts_resolved_at_idx on worker.alerts (resolved_at) where resolved_at is not null;
alter table worker.alerts enable row level security;
grant select, insert, update, delete on worker.alerts to service_role;

-- What an operator was told, in order. Written in the transaction that decides it, so that whoever delivers notices
-- elsewhere can go on from the last id it delivered.
create table if not exists worker.alert_notices (
  id bigint generated always as identity,
  alert_id bigint not null,
  reason text not null,
  level text not null,
  value numeric,
  noticed_at timestamptz not null,
  constraint alert_notices_pkey primary key (id),
  constraint alert_notices_alert_id_fkey foreign key (alert_id) references worker.alerts (id) on delete cascade,
  constraint alert_notices_reason_check check (reason in ('new', 'level', 'doubled', 'reminder', 'resolved'))
);
create index if not exists alert_notices_alert_id_idx on worker.alert_notices (alert_id);
alter table worker.alert_notices enable row level security;
grant select, insert on worker.alert_notices to service_role;

-- Reports that something is wrong. Reports of one key are one incident until it is resolved. A notice is due when the
-- incident is new, its level rises, its value doubled since the last notice, or 24 h passed since then. An incident that
-- somebody acknowledged keeps quiet about the last, and is firing again after the others.
--   p_key       <kind>[:<subject>], at most 400 characters
--   p_level     info | warning | critical
--   p_value     how bad it is; null = cannot be measured
--   p_evidence  object; replaces what was known
--   p_now       the caller's clock
--   returns  {id, state, count, notice, level}; notice = new | level | doubled | reminder, null = none is due
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.alert_raise(p_key text, p_level text, p_title text, p_runbook text, p_value numeric,
  p_threshold numeric, p_evidence jsonb, p_now timestamptz) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_levels constant text[] := array['info', 'warning', 'critical'];
  a worker.alerts;
  v_notice text;
begin
  if array_position(v_levels, p_level) is null or p_now is null or coalesce(length(p_key), 0) not between 1 and 400
     or length(p_evidence::text) > 65536 then
    raise exception 'usage_argument_invalid: a known level, a key of at most 400 characters, evidence of at most 64 KiB'
      using errcode = 'UL001';
  end if;
  for attempt in 1 .. 5 loop
    insert into worker.alerts (key, kind, level, title, runbook, value, threshold, evidence, first_seen, last_seen,
      noticed_at, noticed_level, noticed_value)
    values (p_key, split_part(p_key, ':', 1), p_level, p_title, p_runbook, p_value, p_threshold,
            coalesce(p_evidence, '{}'), p_now, p_now, p_now, p_level, p_value)
    on conflict (key) where resolved_at is null do nothing
    returning * into a;
    if found then
      v_notice := 'new';
      -- The table stays small by itself: what was over more than 400 days ago makes room.
      delete from worker.alerts where id in (
        select id from worker.alerts where resolved_at < p_now - interval '400 days' order by resolved_at limit 100);
      exit;
    end if;
    select * into a from worker.alerts where key = p_key and resolved_at is null for update;
    exit when found; -- otherwise it was resolved in between
  end loop;
  if a.id is null then
    raise exception 'alert_busy' using errcode = '40001';
  end if;

  if v_notice is null then
    v_notice := case
      when array_position(v_levels, p_level) > array_position(v_levels, a.noticed_level) then 'level'
      when abs(p_value) >= 2 * abs(a.noticed_value) and a.noticed_value <> 0 then 'doubled'
      when a.state = 'firing' and p_now >= a.noticed_at + interval '24 hours' then 'reminder' end;
    update worker.alerts
       set level = p_level, title = p_title, runbook = p_runbook, value = p_value, threshold = p_threshold,
           evidence = coalesce(p_evidence, '{}'), count = count + 1, last_seen = greatest(last_seen, p_now),
           state = case when v_notice in ('level', 'doubled') then 'firing' else state end,
           noticed_at = case when v_notice is null then noticed_at else p_now end,
           noticed_level = case when v_notice is null then noticed_level else p_level end,
           noticed_value = case when v_notice is null then noticed_value else p_value end
     where id = a.id
    returning * into a;
  end if;
  if v_notice is not null then
    insert into worker.alert_notices (alert_id, reason, level, value, noticed_at)
    values (a.id, v_notice, p_level, p_value, p_now);
  end if;
  return jsonb_build_object('id', a.id::text, 'state', a.state, 'count', a.count::text, 'notice', v_notice,
    'level', a.level);
end $$;
revoke all on function worker.alert_raise from public, anon, authenticated;
grant execute on function worker.alert_raise to service_role;

-- Says that what was reported under a key is over. Repeating it changes nothing.
--   returns  {status: resolved, id, level, count, firstSeen} | {status: none}   nothing is open under the key
create or replace function worker.alert_resolve(p_key text, p_now timestamptz) returns jsonb
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  a worker.alerts;
begin
  update worker.alerts set state = 'resolved', resolved_at = p_now
   where key = p_key and resolved_at is null
  returning * into a;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  insert into worker.alert_notices (alert_id, reason, level, value, noticed_at)
  values (a.id, 'resolved', a.level, a.value, p_now);
  return jsonb_build_object('status', 'resolved', 'id', a.id::text, 'level', a.level, 'count', a.count::text,
    'firstSeen', a.first_seen);
end $$;
revoke all on function worker.alert_resolve from public, anon, authenticated;
grant execute on function worker.alert_resolve to service_role;

-- Somebody takes care of an incident: no reminders until it gets worse. The first one stands.
--   returns  {status: acknowledged | already, who, at} | {status: resolved} | {status: unknown}
create or replace function worker.alert_acknowledge(p_id bigint, p_who text, p_reason text, p_now timestamptz)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  a worker.alerts;
  v_status text := 'already';
begin
  select * into a from worker.alerts where id = p_id for update;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  if a.state = 'resolved' then
    return jsonb_build_object('status', 'resolved');
  end if;
  if a.state = 'firing' then
    v_status := 'acknowledged';
    update worker.alerts
       set state = 'acknowledged', acknowledged_at = p_now, acknowledged_by = p_who, acknowledged_reason = p_reason
     where id = p_id
    returning * into a;
  end if;
  return jsonb_build_object('status', v_status, 'who', a.acknowledged_by, 'at', a.acknowledged_at);
end $$;
revoke all on function worker.alert_acknowledge from public, anon, authenticated;
grant execute on function worker.alert_acknowledge to service_role;

-- Incidents, newest first.
--   p_state   open (firing or acknowledged) | firing | acknowledged | resolved | all
--   p_level, p_kind  only those; null = all
--   p_before  id of the last row of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{id, key, kind, level, state, title, runbook, value, threshold, evidence, count, firstSeen, lastSeen,
--             noticedAt, acknowledgedAt, acknowledgedBy, acknowledgedReason, resolvedAt}], next}; ids and amounts as
--             text, next = p_before of the following page or null
create or replace function worker.alert_read(p_state text, p_level text default null, p_kind text default null,
  p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.alerts
     where case p_state when 'all' then true when 'open' then resolved_at is null else state = p_state end
       and (p_level is null or level = p_level) and (p_kind is null or kind = p_kind)
       and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'key', key, 'kind', kind, 'level', level,
        'state', state, 'title', title, 'runbook', runbook, 'value', value::text, 'threshold', threshold::text,
        'evidence', evidence, 'count', count::text, 'firstSeen', first_seen, 'lastSeen', last_seen,
        'noticedAt', noticed_at, 'acknowledgedAt', acknowledged_at, 'acknowledgedBy', acknowledged_by,
        'acknowledgedReason', acknowledged_reason, 'resolvedAt', resolved_at) order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.alert_read from public, anon, authenticated;
grant execute on function worker.alert_read to service_role;
