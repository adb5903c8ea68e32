-- Part of usage_audit_differences: batches whose row, ledger and events say different things, although the numbers of
-- no tenant differ. When ledger, total and events were raised together the same use stands on two days: that names the
-- tenant.
--   returns  findings: double_applied with a tenant, failed_batch without one
create or replace function worker.usage_audit_batches(p_batches bigint[])
returns table (tenant text, cause text, tokens numeric, events bigint, relative numeric, evidence jsonb)
language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  if p_batches = '{}' then
    return;
  end if;
  return query
  with event as (
    select e.batch_id, e.tenant collate "C" as tenant, e.uid, e.tokens,
           row_number() over (partition by e.batch_id, e.uid order by e.day) as place
      from worker.usage_events e join unnest(p_batches) as s (id) on s.id = e.batch_id),
  found as (
    select batch_id, sum(tokens) as tokens, count(*) as events from event group by batch_id),
  booked as (
    select batch_id, sum(tokens) as tokens, sum(events)::bigint as events
      from worker.usage_ledger join unnest(p_batches) as s (id) on s.id = batch_id
     where reason in ('usage', 'late', 'future', 'backfill')
     group by batch_id),
  twice as (
    select batch_id, tenant, sum(tokens) as tokens, count(*) as events,
           (array_agg(uid::text order by uid))[1:20] as uids
      from event
     where place > 1
     group by batch_id, tenant),
  named as (
    select batch_id, sum(tokens) as tokens, sum(events)::bigint as events from twice group by batch_id),
  fact as (
    select b.*, coalesce(l.tokens, 0) as ledger, coalesce(l.events, 0) as ledger_events, coalesce(f.tokens, 0) as found,
           coalesce(f.events, 0) as found_events,
           coalesce(n.tokens, 0) as named, coalesce(n.events, 0) as named_events,
           coalesce(l.tokens, 0) - b.tokens as off, coalesce(l.events, 0) - b.applied as off_events
      from worker.usage_batches b
      join unnest(p_batches) as s (id) on s.id = b.batch_id
      left join booked l on l.batch_id = b.batch_id
      left join found f on f.batch_id = b.batch_id
      left join named n on n.batch_id = b.batch_id)
  select t.tenant, 'double_applied', t.tokens, t.events, null::numeric,
         jsonb_build_object('batches', jsonb_build_array(t.batch_id::text), 'uids', to_jsonb(t.uids))
    from twice t join fact f on f.batch_id = t.batch_id
   where f.off = f.named and f.off_events = f.named_events
  union all
  select null, 'failed_batch',
         case when off <> 0 or off_events <> 0 or seen <> applied + dup then off else ledger - found end,
         case when off <> 0 or off_events <> 0 or seen <> applied + dup then off_events
              else ledger_events - found_events end, null,
         jsonb_build_object('batch', batch_id::text, 'shard', shard, 'seen', seen, 'applied', applied, 'dup', dup,
           'tokens', tokens::text, 'ledger', ledger::text, 'events', found::text)
    from fact
   where seen <> applied + dup or off <> named or off_events <> named_events or named_events = 0;
end $$;
revoke all on function worker.usage_audit_batches from public, anon, authenticated;
grant execute on function worker.usage_audit_batches to service_role;
