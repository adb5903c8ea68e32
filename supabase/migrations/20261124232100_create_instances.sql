-- Why: the detailed status tells of the whole service, and its copies share no memory.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Running copies of the service. They share no memory, so this is where they know of each other.
create table if not exists worker.instances (
  id text not null,                        -- made up at the start of the process
  started_at timestamptz not null,
  seen_at timestamptz not null,
  memory_mb numeric not null,
  constraint instances_pkey primary key (id),
  constraint instances_id_check check (length(id) between 1 and 100)
);
create index if not exists instances_seen_at_idx on worker.instances (seen_at);
alter table worker.instances enable row level security;
grant select, insert, update, delete on worker.instances to service_role;

-- Since when at least one copy runs, whichever it is.
create table if not exists worker.fleet (
  is_fleet boolean not null default true,
  up_since timestamptz not null,
  seen_at timestamptz not null,
  constraint fleet_pkey primary key (is_fleet),
  constraint fleet_is_fleet_check check (is_fleet)
);
alter table worker.fleet enable row level security;
grant select, insert, update on worker.fleet to service_role;

-- An instance says that it runs. The fleet is up without a break as long as somebody was seen every five minutes, or
-- whoever speaks has been running since before the silence (then only the database was away).
--   p_id         of the process
--   p_uptime_ms  how long it has been running; the clock is that of the database
--   p_memory_mb  what it holds in memory
create or replace function worker.instance_seen(p_id text, p_uptime_ms bigint, p_memory_mb numeric) returns void
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_started timestamptz := v_now - greatest(p_uptime_ms, 0) * interval '1 millisecond';
begin
  insert into worker.instances (id, started_at, seen_at, memory_mb)
  values (p_id, v_started, v_now, p_memory_mb)
  on conflict on constraint instances_pkey do update
    set seen_at = greatest(instances.seen_at, excluded.seen_at), memory_mb = excluded.memory_mb;
  insert into worker.fleet (up_since, seen_at) values (v_started, v_now)
  on conflict on constraint fleet_pkey do update
    set up_since = case when fleet.seen_at < v_now - interval '5 minutes' and v_started > fleet.seen_at
                        then v_started else least(fleet.up_since, v_started) end,
        seen_at = greatest(fleet.seen_at, v_now);
  -- The table stays small by itself.
  delete from worker.instances where id in (
    select id from worker.instances where seen_at < v_now - interval '1 day' order by seen_at limit 100
       for update skip locked);
end $$;
revoke all on function worker.instance_seen from public, anon, authenticated;
grant execute on function worker.instance_seen to service_role;

-- The fleet as it was seen in the last five minutes.
--   returns  {now, upSince, instances: [{id, startedAt, seenAt, memoryMb}]}; upSince = null when nobody was seen, at most
--            100 instances, oldest first
create or replace function worker.instance_read() returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with alive as (
    select * from worker.instances
     where seen_at >= clock_timestamp() - interval '5 minutes'
     order by started_at limit 100)
  select jsonb_build_object('now', clock_timestamp(),
    'upSince', (select up_since from worker.fleet where seen_at >= clock_timestamp() - interval '5 minutes'),
    'instances', coalesce((select jsonb_agg(jsonb_build_object('id', id, 'startedAt', started_at, 'seenAt', seen_at,
      'memoryMb', memory_mb) order by started_at) from alive), '[]'))
$$;
revoke all on function worker.instance_read from public, anon, authenticated;
grant execute on function worker.instance_read to service_role;
