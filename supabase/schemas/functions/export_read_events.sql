-- A page of the uses of a day, as far as they are booked, in the order of their key.
--   p_after  uid of the last row of the page before; null = from the first
--   returns  {rows: [[day, uid, tenant, period, token_type, model, agent_id, conversation_id, tokens, batch_id]], next}
create or replace function worker.export_read_events(p_day date, p_after uuid, p_limit int) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_events
     where day = p_day and (p_after is null or uid > p_after)
     order by uid limit p_limit)
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_array(day, uid, tenant, period, token_type, model, agent_id,
        conversation_id, tokens::text, batch_id::text) order by uid), '[]'),
      'next', case when count(*) = p_limit then (array_agg(uid order by uid desc))[1] end)
    from page
$$;
revoke all on function worker.export_read_events from public, anon, authenticated;
grant execute on function worker.export_read_events to service_role;
