-- Whether every item that was accepted is somewhere: what was counted as it came and ended against what is there.
--   returns  {accepted, succeeded, dead, cancelled, queued, running, retrying, unaccounted, crashes, staleWrites} as text;
--            unaccounted is 0, or something is wrong
create or replace function worker.work_accounting() returns jsonb
language sql stable security invoker set search_path = '' as $$
  with ended as (
    select coalesce(sum(accepted), 0) as accepted, coalesce(sum(succeeded), 0) as succeeded,
           coalesce(sum(dead - revived), 0) as dead, coalesce(sum(cancelled), 0) as cancelled,
           coalesce(sum(crashes), 0) as crashes, coalesce(sum(stale_writes), 0) as stale_writes
      from worker.work_counters
  ), live as (
    select count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'running') as running,
           count(*) filter (where state = 'retrying') as retrying
      from worker.work_items where state in ('queued', 'running', 'retrying'))
  select jsonb_build_object('accepted', accepted::text, 'succeeded', succeeded::text, 'dead', dead::text,
      'cancelled', cancelled::text, 'queued', queued::text, 'running', running::text, 'retrying', retrying::text,
      'unaccounted', (accepted - succeeded - dead - cancelled - queued - running - retrying)::text,
      'crashes', crashes::text, 'staleWrites', stale_writes::text)
    from ended, live
$$;
revoke all on function worker.work_accounting from public, anon, authenticated;
grant execute on function worker.work_accounting to service_role;
