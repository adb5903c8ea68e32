-- Why: people are told where they look: chat, mail, Application Insights. What was decided to be told is in alert_notices
--   already; this remembers what became of it in each channel.
-- Lock: the index on alert_notices blocks its inserts for the moment it takes; the table is small.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

create index if not exists alert_notices_noticed_at_idx on worker.alert_notices (noticed_at);

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

-- Takes the messages that a channel may send now, oldest retries first. What would be more than the window allows becomes
-- one summary, the most urgent notices apart. A message whose sender died is parked as unknown. Notices older than a day
-- are not told any more: while an incident stands there is a reminder every day.
--   p_channel         slack | teams | email | insights
--   p_window_max      messages of a channel in p_window_seconds, attempts included
--   p_lease_seconds   after which the sender counts as dead; longer than it needs for all of them
--   returns  [{id, attempt, notices: [{id, reason, level, value, noticedAt, key, title, runbook, threshold, count,
--            firstSeen, evidence}]}]; ids and amounts as text; at most 500 notices in all
create or replace function worker.alert_claim_messages(p_channel text, p_window_seconds int, p_window_max int,
  p_lease_seconds int) returns jsonb
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_free int;
  v_messages bigint[];
  v_new bigint[];
begin
  insert into worker.alert_channels (channel, since_id)
  select p_channel, coalesce(max(id), 0) from worker.alert_notices where noticed_at < v_now - interval '1 hour'
  on conflict on constraint alert_channels_pkey do nothing;
  -- One sender at a time decides what a channel tells; another one finds the rest.
  perform from worker.alert_channels where channel = p_channel for update;

  update worker.alert_messages
     set state = 'unknown', error = 'sender_lost', ended_at = v_now
   where channel = p_channel and state = 'sending' and lease_until < v_now;
  select p_window_max - count(*) into v_free
    from worker.alert_messages
   where channel = p_channel and claimed_at > v_now - make_interval(secs => p_window_seconds);
  if v_free <= 0 then
    return '[]';
  end if;

  with due as (
    select id from worker.alert_messages
     where channel = p_channel and state = 'retrying' and next_attempt_at <= v_now
     order by id limit v_free for update),
  claimed as (
    update worker.alert_messages m
       set state = 'sending', attempt = attempt + 1, claimed_at = v_now, next_attempt_at = null,
           lease_until = v_now + make_interval(secs => p_lease_seconds)
      from due where m.id = due.id
    returning m.id)
  select coalesce(array_agg(id), '{}') into v_messages from claimed;
  v_free := v_free - cardinality(v_messages);

  if v_free > 0 then
    select array_agg(id order by urgency, id) into v_new
      from (select n.id, array_position(array['critical', 'warning', 'info'], n.level) as urgency
              from worker.alert_notices n
              join worker.alert_channels c on c.channel = p_channel and n.id > c.since_id
             where n.noticed_at > v_now - interval '24 hours'
               and not exists (select from worker.alert_deliveries d where d.notice_id = n.id and d.channel = p_channel)
             order by n.id limit 500) as untold;
  end if;
  if cardinality(v_new) > 0 then
    with made as (
      insert into worker.alert_messages (channel, claimed_at, lease_until)
      select p_channel, v_now, v_now + make_interval(secs => p_lease_seconds)
        from generate_series(1, least(cardinality(v_new), v_free))
      returning id),
    placed as (select id, row_number() over (order by id) as place from made),
    delivered as (
      insert into worker.alert_deliveries (notice_id, channel, message_id)
      select n.id, p_channel, placed.id
        from unnest(v_new) with ordinality as n (id, place)
        join placed on placed.place = least(n.place, v_free))
    select v_messages || array_agg(id) into v_messages from placed;
  end if;

  return coalesce((
    select jsonb_agg(jsonb_build_object('id', m.id::text, 'attempt', m.attempt, 'notices', told.notices) order by m.id)
      from worker.alert_messages m
      join lateral (
        select jsonb_agg(jsonb_build_object('id', n.id::text, 'reason', n.reason, 'level', n.level,
                 'value', n.value::text, 'noticedAt', n.noticed_at, 'key', a.key, 'title', a.title,
                 'runbook', a.runbook, 'threshold', a.threshold::text, 'count', a.count::text,
                 'firstSeen', a.first_seen, 'evidence', a.evidence) order by n.id) as notices
          from worker.alert_deliveries d
          join worker.alert_notices n on n.id = d.notice_id
          join worker.alerts a on a.id = n.alert_id
         where d.message_id = m.id) as told on told.notices is not null
     where m.id = any (v_messages)), '[]');
end $$;
revoke all on function worker.alert_claim_messages from public, anon, authenticated;
grant execute on function worker.alert_claim_messages to service_role;

-- Stores what became of a message. A settlement by somebody whose claim is over changes nothing.
--   p_outcome        sent | failed: it did not arrive, may work later | refused: it did not arrive and never will
--                    | unknown: nobody can say | released: it was not tried
--   p_retry_seconds  of failed: when to try again
--   p_attempts_max   of failed: after which it is dead
--   returns  {status: settled, state} | {status: stale}
create or replace function worker.alert_settle_message(p_message bigint, p_attempt int, p_outcome text, p_error text,
  p_retry_seconds int, p_attempts_max int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_state text := case
    when p_outcome in ('sent', 'unknown') then p_outcome
    when p_outcome = 'released' then 'retrying'
    when p_outcome = 'failed' and p_attempt < p_attempts_max then 'retrying'
    when p_outcome in ('failed', 'refused') then 'dead' end;
begin
  update worker.alert_messages
     set state = v_state,
         attempt = case when p_outcome = 'released' then attempt - 1 else attempt end,
         error = left(p_error, 100),
         next_attempt_at = case when v_state = 'retrying' then v_now + make_interval(secs => p_retry_seconds) end,
         ended_at = case when v_state <> 'retrying' then v_now end
   where id = p_message and attempt = p_attempt and state = 'sending';
  if not found then
    return jsonb_build_object('status', 'stale');
  end if;
  return jsonb_build_object('status', 'settled', 'state', v_state);
end $$;
revoke all on function worker.alert_settle_message from public, anon, authenticated;
grant execute on function worker.alert_settle_message to service_role;

-- How the channels do.
--   p_seconds  how far back ended messages count
--   returns  [{channel, sent, unknown, dead, waiting, last, error}]; last = state of the message that ended last,
--            error = code of the last failure; both null when there is none
create or replace function worker.alert_read_channels(p_seconds int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('channel', c.channel, 'sent', m.sent, 'unknown', m.unknown,
      'dead', m.dead, 'waiting', m.waiting, 'last', m.last, 'error', m.error) order by c.channel), '[]')
    from worker.alert_channels c
    cross join lateral (
      select count(*) filter (where state = 'sent') as sent,
             count(*) filter (where state = 'unknown') as unknown,
             count(*) filter (where state = 'dead') as dead,
             count(*) filter (where state = 'retrying') as waiting,
             (array_agg(state order by ended_at desc, id desc) filter (where ended_at is not null))[1] as last,
             (array_agg(error order by claimed_at desc, id desc) filter (where error is not null))[1] as error
        from worker.alert_messages
       where channel = c.channel
         and claimed_at > clock_timestamp() - make_interval(secs => p_seconds)) as m
$$;
revoke all on function worker.alert_read_channels from public, anon, authenticated;
grant execute on function worker.alert_read_channels to service_role;
