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
