-- A page of the totals of some months.
--   p_periods     months, yyyymm
--   p_after       [tenant, period] of the last row of the page before; null = from the first
--   returns  {rows: [[tenant, period, tokens, events, late, future, legacy]], next}
create or replace function worker.export_read_totals(p_periods int[], p_after jsonb, p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_totals
     where period = any (p_periods)
       and (p_after is null or (tenant, period) > ((p_after ->> 0) collate "C", (p_after ->> 1)::int))
     order by tenant, period limit p_limit)
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_array(tenant, period, tokens::text, events::text, late::text, future::text,
        legacy::text) order by tenant, period), '[]'),
      'next', case when count(*) = p_limit
                   then (array_agg(jsonb_build_array(tenant, period) order by tenant desc, period desc))[1] end)
    from page
$$;
revoke all on function worker.export_read_totals from public, anon, authenticated;
grant execute on function worker.export_read_totals to service_role;
