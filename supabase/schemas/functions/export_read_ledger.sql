-- A page of ledger rows that were booked in a week.
--   p_week        its first day
--   p_after, p_to ids: after < id <= to
--   returns  {rows: [[id, booked_at, tenant, period, usage_period, token_type, model, tokens, events, reason, lane,
--            batch_id]], next}; next = p_after of the following page or null
create or replace function worker.export_read_ledger(p_week date, p_after bigint, p_to bigint, p_limit int)
returns jsonb language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.usage_ledger
     where id > p_after and id <= p_to
       and booked_at >= p_week::timestamp at time zone 'UTC'
       and booked_at < (p_week + 7)::timestamp at time zone 'UTC'
     order by id limit p_limit)
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_array(id::text, booked_at, tenant, period, usage_period, token_type, model,
        tokens::text, events, reason, lane, batch_id::text) order by id), '[]'),
      'next', case when count(*) = p_limit then max(id)::text end)
    from page
$$;
revoke all on function worker.export_read_ledger from public, anon, authenticated;
grant execute on function worker.export_read_ledger to service_role;
