-- Days of events that are older than the retention, earliest first.
--   p_before  first day that is kept
--   p_limit   1 .. 400
--   returns   [yyyy-mm-dd]
create or replace function worker.usage_prunable_days(p_before date, p_limit int default 100) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(day order by day), '[]')
    from (select to_date(substring(c.relname from '_(\d{8})$'), 'YYYYMMDD') as day
            from pg_catalog.pg_inherits i
            join pg_catalog.pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'worker.usage_events'::regclass and c.relname ~ '_\d{8}$'
             and substring(c.relname from '_(\d{8})$') < to_char(p_before, 'YYYYMMDD')
          union
          select day from worker.usage_events_default where day < p_before
           order by day
           limit least(greatest(p_limit, 1), 400)) d
$$;
revoke all on function worker.usage_prunable_days from public, anon, authenticated;
grant execute on function worker.usage_prunable_days to service_role;
