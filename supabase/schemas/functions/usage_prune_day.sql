-- Drops the events of one day. What they were is added to usage_pruned first, by tenant and month, in the same
-- transaction: an audit sees the events or the record, never both, never neither. Definer: the service role may neither
-- drop tables nor delete events.
--   Lock: the day's partition takes no further event while it is summed up; for the drop itself everything that uses the
--   events waits for an instant. Gives up after 2 s rather than hold up the bookings.
--   p_before  first day that is kept; days of the last 40 are kept whatever it says
--   returns   {status: pruned, events, tenants, tokens} | {status: kept} | {status: absent}; tokens as text
--   raises    55P03 when the bookings did not pause within 2 s (transient)
create or replace function worker.usage_prune_day(p_day date, p_before date) returns jsonb
language plpgsql volatile security definer
set search_path = '' set jit = off set work_mem = '64MB' set lock_timeout = '2s' set statement_timeout = '120s' as $$
declare
  v_part text := format('usage_events_%s', to_char(p_day, 'YYYYMMDD'));
  v_has_part boolean := to_regclass('worker.' || v_part) is not null;
  v_sums record;
begin
  if p_day >= p_before or p_day >= (now() at time zone 'UTC')::date - 40 then
    return jsonb_build_object('status', 'kept');
  end if;
  -- One at a time: two would add their sums twice before one of them finds nothing to drop.
  perform pg_advisory_xact_lock(hashtextextended('worker.usage_prune_day', 0));
  if v_has_part then
    if to_regclass('worker.' || v_part) is null then
      return jsonb_build_object('status', 'absent');
    end if;
    execute format('lock table worker.%I in share mode', v_part);
  else
    lock table worker.usage_events_default in share row exclusive mode;
    if not exists (select from worker.usage_events_default where day = p_day) then
      return jsonb_build_object('status', 'absent');
    end if;
  end if;

  with summed as (
    select e.period, e.tenant collate "C" as tenant, coalesce(min(b.shard), worker.usage_shard_of(e.tenant collate "C")) as shard,
           sum(e.tokens) as tokens, count(*) as events
      from worker.usage_events e
      left join worker.usage_batches b on b.batch_id = e.batch_id
     where e.day = p_day
     group by 1, 2),
  recorded as (
    insert into worker.usage_pruned as p (period, tenant, shard, tokens, events)
    select period, tenant, shard, tokens, events from summed order by period, tenant
    on conflict on constraint usage_pruned_pkey do update
      set tokens = p.tokens + excluded.tokens, events = p.events + excluded.events)
  select coalesce(sum(events), 0) as events, coalesce(sum(tokens), 0) as tokens, count(distinct tenant) as tenants
    into v_sums from summed;
  insert into worker.usage_pruned_days as d (day, events, tokens)
  values (p_day, v_sums.events, v_sums.tokens)
  on conflict on constraint usage_pruned_days_pkey do update
    set events = d.events + excluded.events, tokens = d.tokens + excluded.tokens, pruned_at = now();
  if v_has_part then
    execute format('drop table worker.%I', v_part);
  else
    delete from worker.usage_events_default where day = p_day;
  end if;
  return jsonb_build_object('status', 'pruned', 'events', v_sums.events, 'tenants', v_sums.tenants,
    'tokens', v_sums.tokens::text);
end $$;
revoke all on function worker.usage_prune_day from public, anon, authenticated;
grant execute on function worker.usage_prune_day to service_role;
