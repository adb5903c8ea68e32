-- Items that ended without success and whose feature may not know; each is given to one caller for 5 minutes.
--   returns  [{id, kind, version, payload, state, code}]
create or replace function worker.work_sweep_unsettled(p_kinds text[], p_limit int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  with due as (
    select id from worker.work_items
     where settle_at <= clock_timestamp() and state in ('dead', 'cancelled') and kind = any (p_kinds)
     order by settle_at limit least(greatest(p_limit, 1), 1000) for update skip locked
  ), taken as (
    update worker.work_items w set settle_at = clock_timestamp() + interval '5 minutes'
     where w.id = any (array (select id from due))
    returning w.*)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'kind', kind, 'version', version, 'payload', payload,
           'state', state, 'code', code)), '[]')
    from taken
$$;
revoke all on function worker.work_sweep_unsettled from public, anon, authenticated;
grant execute on function worker.work_sweep_unsettled to service_role;
