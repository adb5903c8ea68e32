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
