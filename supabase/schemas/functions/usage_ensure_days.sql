-- Makes the daily partitions of the events for p_from .. p_to; days that have one stay as they are. Events that
-- arrived before their partition sit in the default one and are moved, because a partition cannot be added while the
-- default one holds its rows. Definer: the service role may not create tables.
-- Lock: only when a day is missing, applying waits until it is made, for milliseconds; safe to run concurrently.
--   p_from, p_to  both included, at most 400 days
--   returns       partitions made
--   raises        UL001 usage_argument_invalid (permanent), 55P03 when applying did not pause within 2 s (transient)
create or replace function worker.usage_ensure_days(p_from date, p_to date) returns int
language plpgsql volatile security definer
set search_path = '' set lock_timeout = '2s' set statement_timeout = '60s' as $$
declare
  v_missing date[];
  v_day date;
  v_part text;
begin
  if p_from is null or p_to is null or p_to - p_from not between 0 and 399 then
    raise exception 'usage_argument_invalid: p_from to p_to must be 1 to 400 days' using errcode = 'UL001';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('worker.usage_ensure_days', 0));
  select coalesce(array_agg(day), '{}') into v_missing
    from (select p_from + i as day from generate_series(0, p_to - p_from) as i) days
   where to_regclass(format('worker.usage_events_%s', to_char(day, 'YYYYMMDD'))) is null;
  if v_missing = '{}' then
    return 0;
  end if;
  -- Otherwise an event could be routed to the default partition between the move and the attachment.
  lock table worker.usage_events in share row exclusive mode;
  foreach v_day in array v_missing loop
    v_part := format('usage_events_%s', to_char(v_day, 'YYYYMMDD'));
    execute format('create table worker.%I (like worker.usage_events including all)', v_part);
    execute format('alter table worker.%I enable row level security', v_part);
    execute format('with moved as (delete from worker.usage_events_default where day = %L returning *)
                    insert into worker.%I select * from moved', v_day, v_part);
    execute format('alter table worker.usage_events attach partition worker.%I for values from (%L) to (%L)',
                   v_part, v_day, v_day + 1);
  end loop;
  return cardinality(v_missing);
end $$;
revoke all on function worker.usage_ensure_days from public, anon, authenticated;
grant execute on function worker.usage_ensure_days to service_role;
