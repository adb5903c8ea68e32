-- Which of these uses are booked already: for a look before the drain.
--   p_uid, p_day  columns of one length, at most 5000; p_day counts from 1970-01-01
--   returns       [uid]
create or replace function worker.usage_legacy_find_events(p_uid uuid[], p_day int[]) returns jsonb
language sql stable security invoker
set search_path = '' set enable_hashjoin = off set enable_mergejoin = off as $$ -- the keys, not whole days
  select coalesce(jsonb_agg(distinct e.uid), '[]')
    from (select uid, day from unnest(p_uid, p_day) as u (uid, day) limit 5000) u
    join worker.usage_events e on e.day = date '1970-01-01' + u.day and e.uid = u.uid
$$;
revoke all on function worker.usage_legacy_find_events from public, anon, authenticated;
grant execute on function worker.usage_legacy_find_events to service_role;
