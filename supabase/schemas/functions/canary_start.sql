-- Which queues need a canary now: those whose last one is old enough and arrived, or is lost for good. At most one is on
-- its way, so that a consumer that stops for a day does not find a thousand of them.
--   p_queues         all queues
--   p_every_seconds  between two canaries of a queue
--   p_lost_seconds   after which another one is sent although the last did not arrive
--   returns  [{id, queue}]: rows that were made; send a message for each
create or replace function worker.canary_start(p_queues text[], p_every_seconds int, p_lost_seconds int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  with needed as (
    select q.queue from unnest(p_queues) as q (queue)
     where not exists (
       select from worker.canaries c
        where c.queue = q.queue
          and c.sent_at > clock_timestamp() - make_interval(secs =>
            case when c.arrived_at is null then greatest(p_lost_seconds, p_every_seconds) else p_every_seconds end))),
  made as (insert into worker.canaries (queue) select queue from needed returning id, queue)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'queue', queue) order by queue), '[]') from made
$$;
revoke all on function worker.canary_start from public, anon, authenticated;
grant execute on function worker.canary_start to service_role;
