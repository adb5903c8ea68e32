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
