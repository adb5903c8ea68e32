-- Accepts items, all or none. One with the dedupe key of a live item of its kind and tenant, or made of a message that is
-- known already, is a duplicate: the first one stands.
--   p_items        at most 1000 of {kind, version, tenant, priority, payload, maxAttempts, requestedBy,
--                  dedupeKey?, source?, runAt?, delayMs?}
--   p_running_max  {kind: items of a tenant that may run at once}
--   p_is_sent      their messages are there already
--   returns        {items: [{id, isDuplicate}] in the order given, send: [{id, kind, priority, delayMs}]}
--   raises         WK001 work_argument_invalid (permanent); 40001 work_busy (transient)
create or replace function worker.work_enqueue(p_items jsonb, p_running_max jsonb, p_is_sent boolean default false)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamptz;
  v_send jsonb := '[]';
  v_items jsonb;
  t record;
begin
  if jsonb_typeof(p_items) is distinct from 'array' or jsonb_array_length(p_items) > 1000 then
    raise exception 'work_argument_invalid: at most 1000 items' using errcode = 'WK001';
  end if;
  for t in select distinct value ->> 'kind' as kind, value ->> 'tenant' as tenant
             from jsonb_array_elements(p_items) order by 1, 2 loop
    perform worker.work_lock(t.kind, t.tenant);
  end loop;
  v_now := clock_timestamp();

  with given as (
    select gen_random_uuid() as id, ordinality as place, value as v from jsonb_array_elements(p_items) with ordinality
  ), added as (
    insert into worker.work_items (id, kind, version, tenant, priority, payload, max_attempts, requested_by, dedupe_key,
      source, due_at, sent_at, sends, resend_at, created_at, updated_at)
    select id, v ->> 'kind', (v ->> 'version')::int, v ->> 'tenant', v ->> 'priority', v -> 'payload',
           (v ->> 'maxAttempts')::int, v ->> 'requestedBy', v ->> 'dedupeKey', v ->> 'source',
           coalesce((v ->> 'runAt')::timestamptz, v_now + (v ->> 'delayMs')::float8 * interval '1 millisecond', v_now),
           case when p_is_sent then v_now end, p_is_sent::int,
           case when p_is_sent then worker.work_resend_at(v_now, 1) end, v_now, v_now
      from given order by place
    on conflict do nothing
    returning id
  )
  select jsonb_agg(jsonb_build_object('id', added.id, 'place', place, 'v', given.v) order by place)
    into v_items
    from given left join added on added.id = given.id;
  for t in select value -> 'v' ->> 'kind' as kind, count(*) as n from jsonb_array_elements(v_items)
            where value ->> 'id' is not null group by 1 order by 1 loop
    perform worker.work_count(t.kind, 'accepted', t.n);
  end loop;

  with known as (
    select (value ->> 'place')::int as place, coalesce((value ->> 'id')::uuid, s.id, d.id) as id,
           value ->> 'id' is null as is_duplicate
      from jsonb_array_elements(v_items)
      left join worker.work_items s on value ->> 'id' is null and s.source = value -> 'v' ->> 'source'
      left join worker.work_items d on value ->> 'id' is null and s.id is null and d.kind = value -> 'v' ->> 'kind'
        and d.tenant = value -> 'v' ->> 'tenant' and d.dedupe_key = value -> 'v' ->> 'dedupeKey'
        and d.state in ('queued', 'running', 'retrying'))
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'isDuplicate', is_duplicate) order by place), '[]')
    into v_items from known;
  if jsonb_path_exists(v_items, '$[*] ? (@.id == null)') then
    raise exception 'work_busy' using errcode = '40001'; -- the one it repeats ended just now
  end if;

  if not p_is_sent then
    for t in select distinct value ->> 'kind' as kind, value ->> 'tenant' as tenant
               from jsonb_array_elements(p_items) order by 1, 2 loop
      select v_send || coalesce(jsonb_agg(value || jsonb_build_object('kind', t.kind) order by ordinality), '[]')
        into v_send
        from jsonb_array_elements(worker.work_refill(t.kind, t.tenant, (p_running_max ->> t.kind)::int))
             with ordinality;
    end loop;
  end if;
  return jsonb_build_object('items', v_items, 'send', v_send);
end $$;
revoke all on function worker.work_enqueue from public, anon, authenticated;
grant execute on function worker.work_enqueue to service_role;
