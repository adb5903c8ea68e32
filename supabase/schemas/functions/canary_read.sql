-- The canaries of each queue.
--   returns  [{queue, sinceSeconds, tookMs}]; sinceSeconds = age of the oldest that did not arrive since the last that
--            did, null = none; tookMs = way of the last that arrived, null = none ever did
create or replace function worker.canary_read(p_queues text[]) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('queue', q.queue,
      'sinceSeconds', round(extract(epoch from clock_timestamp() - waiting.sent_at)),
      'tookMs', round(extract(epoch from last.arrived_at - last.sent_at) * 1000)) order by q.queue), '[]')
    from unnest(p_queues) as q (queue)
    left join lateral (
      select sent_at, arrived_at from worker.canaries c
       where c.queue = q.queue and c.arrived_at is not null order by c.sent_at desc limit 1) as last on true
    left join lateral (
      select min(sent_at) as sent_at from worker.canaries c
       where c.queue = q.queue and c.arrived_at is null
         and c.sent_at > coalesce(last.sent_at, '-infinity')) as waiting on true
$$;
revoke all on function worker.canary_read from public, anon, authenticated;
grant execute on function worker.canary_read to service_role;
