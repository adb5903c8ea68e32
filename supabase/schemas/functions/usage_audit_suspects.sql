-- Part of usage_audit_differences: which of these batches are wrong indeed. Most hold uses of another month, too, and
-- agree when those are counted.
--   p_compares_events  whether all events of the month are there to be compared
create or replace function worker.usage_audit_suspects(p_batches bigint[], p_period int, p_compares_events boolean)
returns bigint[] language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' set plan_cache_mode = force_custom_plan as $$
begin
  if p_batches = '{}' then
    return '{}';
  end if;
  return array(
    select b.batch_id
      from worker.usage_batches b
      join unnest(p_batches) as s (id) on s.id = b.batch_id
      left join (
        select l.batch_id, sum(l.tokens) as tokens, sum(l.events) as events,
               coalesce(sum(l.tokens) filter (where l.usage_period = p_period), 0) as used,
               coalesce(sum(l.events) filter (where l.usage_period = p_period), 0) as used_events
          from worker.usage_ledger l
          join unnest(p_batches) as s (id) on s.id = l.batch_id
         where l.reason in ('usage', 'late', 'future', 'backfill')
         group by l.batch_id) l on l.batch_id = b.batch_id
      left join (
        select e.batch_id, sum(e.tokens) as tokens, count(*) as events
          from worker.usage_events e
          join unnest(p_batches) as s (id) on s.id = e.batch_id
         where e.period = p_period and p_compares_events
         group by e.batch_id) e on e.batch_id = b.batch_id
     where coalesce(l.tokens, 0) <> b.tokens or coalesce(l.events, 0) <> b.applied or b.seen <> b.applied + b.dup
        or (p_compares_events and (coalesce(l.used, 0) <> coalesce(e.tokens, 0)
                                   or coalesce(l.used_events, 0) <> coalesce(e.events, 0))));
end $$;
revoke all on function worker.usage_audit_suspects from public, anon, authenticated;
grant execute on function worker.usage_audit_suspects to service_role;
