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
