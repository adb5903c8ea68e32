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
