-- The live items by kind, priority and state, with the age of the oldest one that could run, and the accounting.
--   returns  {accounting, groups: at most 500 of [{kind, priority, queued, running, retrying, waiting, oldestSeconds,
--            expired}], kinds: [{kind, accepted, succeeded, dead, cancelled}]}; waiting = has no message yet;
--            expired = past their lease; counts of kinds as text
create or replace function worker.work_stats() returns jsonb
language sql stable security invoker set search_path = '' as $$
  select jsonb_build_object('accounting', worker.work_accounting(),
    'groups', coalesce((
      select jsonb_agg(to_jsonb(g) order by g.kind, g.priority) from (
        select kind, priority, count(*) filter (where state = 'queued') as queued,
               count(*) filter (where state = 'running') as running, count(*) filter (where state = 'retrying') as retrying,
               count(*) filter (where state <> 'running' and sent_at is null) as waiting,
               coalesce(floor(extract(epoch from clock_timestamp()
                 - min(due_at) filter (where state <> 'running' and due_at <= clock_timestamp()))), 0)::bigint as "oldestSeconds",
               count(*) filter (where state = 'running' and lease_until < clock_timestamp()) as expired
          from worker.work_items where state in ('queued', 'running', 'retrying')
         group by kind, priority order by kind, priority limit 500) g), '[]'),
    'kinds', coalesce((
      select jsonb_agg(to_jsonb(k) order by k.kind) from (
        select kind, sum(accepted)::text as accepted, sum(succeeded)::text as succeeded,
               sum(dead - revived)::text as dead, sum(cancelled)::text as cancelled
          from worker.work_counters group by kind order by kind limit 500) k), '[]'))
$$;
revoke all on function worker.work_stats from public, anon, authenticated;
grant execute on function worker.work_stats to service_role;
