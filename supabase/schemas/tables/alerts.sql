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
create index if not exists alert_notices_noticed_at_idx on worker.alert_notices (noticed_at);
alter table worker.alert_notices enable row level security;
grant select, insert on worker.alert_notices to service_role;

-- Where notices go. One row from the first delivery on: a new channel is not told the past.
create table if not exists worker.alert_channels (
  channel text not null,
  since_id bigint not null,                -- notices up to it are not for this channel
  created_at timestamptz not null default now(),
  constraint alert_channels_pkey primary key (channel),
  constraint alert_channels_channel_check check (channel in ('slack', 'teams', 'email', 'insights'))
);
alter table worker.alert_channels enable row level security;
grant select, insert, update, delete on worker.alert_channels to service_role;

-- One message to one channel: one notice, or a summary of what would have been too many. Claimed before it is sent, so
-- that it is sent at most once unless it is known not to have arrived.
create table if not exists worker.alert_messages (
  id bigint generated always as identity,
  channel text not null,
  state text not null default 'sending',   -- unknown: nobody can say whether it arrived, and nobody tries again
  attempt int not null default 1,          -- rises with every claim; a settlement of an older one is refused
  claimed_at timestamptz not null,
  lease_until timestamptz not null,
  next_attempt_at timestamptz,
  error text,                              -- stable code of the last failure
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  constraint alert_messages_pkey primary key (id),
  constraint alert_messages_channel_fkey foreign key (channel) references worker.alert_channels (channel),
  constraint alert_messages_state_check check (state in ('sending', 'retrying', 'sent', 'unknown', 'dead')),
  constraint alert_messages_ended_check check ((ended_at is not null) = (state in ('sent', 'unknown', 'dead'))),
  constraint alert_messages_retrying_check check ((next_attempt_at is not null) = (state = 'retrying'))
);
create index if not exists alert_messages_open_idx on worker.alert_messages (channel, state, next_attempt_at)
  where state in ('sending', 'retrying');
create index if not exists alert_messages_claimed_at_idx on worker.alert_messages (channel, claimed_at);
alter table worker.alert_messages enable row level security;
grant select, insert, update, delete on worker.alert_messages to service_role;

-- Which message told which notice: one row for each channel, made with the message.
create table if not exists worker.alert_deliveries (
  notice_id bigint not null,
  channel text not null,
  message_id bigint not null,
  constraint alert_deliveries_pkey primary key (notice_id, channel),
  constraint alert_deliveries_notice_id_fkey foreign key (notice_id)
    references worker.alert_notices (id) on delete cascade,
  constraint alert_deliveries_message_id_fkey foreign key (message_id)
    references worker.alert_messages (id) on delete cascade
);
create index if not exists alert_deliveries_message_id_idx on worker.alert_deliveries (message_id);
alter table worker.alert_deliveries enable row level security;
grant select, insert, update, delete on worker.alert_deliveries to service_role;
