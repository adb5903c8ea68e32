-- Sends items again whose message did not come back in time.
--   returns  [{id, kind, priority, delayMs}]
create or replace function worker.work_sweep_lost(p_kinds text[], p_limit int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  with lost as (
    select id from worker.work_items
     where sent_at is not null and state in ('queued', 'retrying') and resend_at < clock_timestamp() and kind = any (p_kinds)
     order by resend_at limit least(greatest(p_limit, 1), 1000) for update skip locked
  ), sent as (
    update worker.work_items w
       set sends = sends + 1, sent_at = clock_timestamp(), updated_at = clock_timestamp(),
           resend_at = worker.work_resend_at(clock_timestamp(), sends + 1)
     where w.id = any (array (select id from lost))
    returning w.id, w.kind, w.priority, w.rank)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'kind', kind, 'priority', priority, 'delayMs', 0) order by rank), '[]')
    from sent
$$;
revoke all on function worker.work_sweep_lost from public, anon, authenticated;
grant execute on function worker.work_sweep_lost to service_role;
