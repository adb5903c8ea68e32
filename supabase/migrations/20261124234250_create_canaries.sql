-- Why: a queue whose consumer stopped looks like a quiet queue. A canary is a message that must come back.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: a consumer of before takes a canary for a message it cannot read and poisons it; nobody reads that into
--   anything but a canary that did not arrive.

-- Messages that do nothing but come back: sent through each storage queue, written off by its consumer.
create table if not exists worker.canaries (
  id uuid not null default gen_random_uuid(),
  queue text not null,
  sent_at timestamptz not null default clock_timestamp(),
  arrived_at timestamptz,
  constraint canaries_pkey primary key (id),
  constraint canaries_queue_check check (length(queue) between 1 and 63)
);
create index if not exists canaries_queue_idx on worker.canaries (queue, sent_at desc);
alter table worker.canaries enable row level security;
grant select, insert, update, delete on worker.canaries to service_role;

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

-- Says that a canary came back. Repeating it changes nothing.
--   returns  whether there is such a canary
create or replace function worker.canary_arrive(p_id uuid) returns boolean
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.canaries set arrived_at = coalesce(arrived_at, clock_timestamp()) where id = p_id;
  return found;
end $$;
revoke all on function worker.canary_arrive from public, anon, authenticated;
grant execute on function worker.canary_arrive to service_role;

-- Forgets canaries that could not be sent.
create or replace function worker.canary_withdraw(p_ids uuid[]) returns void
language sql volatile security invoker set search_path = '' as $$
  delete from worker.canaries where id = any (p_ids) and arrived_at is null
$$;
revoke all on function worker.canary_withdraw from public, anon, authenticated;
grant execute on function worker.canary_withdraw to service_role;

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
