-- Lets the next items of tenants into the storage queues whose turn would otherwise come with the end of another item.
--   p_running_max  {kind: items of a tenant that may run at once}
--   p_after        [kind, tenant] of the last tenant of the call before; null = from the first
--   p_limit        tenants of this call, 1 .. 500
--   returns        {send: [{id, kind, priority, delayMs}], next: p_after of the following call, null = that was all}
create or replace function worker.work_sweep_waiting(p_running_max jsonb, p_after text[] default null, p_limit int default 200)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_kind text := coalesce(p_after[1], '');
  v_tenant text := coalesce(p_after[2], '');
  v_send jsonb := '[]';
  v_more boolean;
begin
  for n in 1 .. least(greatest(p_limit, 1), 500) loop
    select kind, tenant into v_kind, v_tenant from worker.work_items
     where sent_at is null and state in ('queued', 'retrying') and (kind, tenant) > (v_kind, v_tenant)
     order by kind, tenant limit 1;
    v_more := found;
    exit when not found;
    continue when p_running_max ->> v_kind is null;
    perform worker.work_lock(v_kind, v_tenant);
    select v_send || coalesce(jsonb_agg(value || jsonb_build_object('kind', v_kind) order by ordinality), '[]') into v_send
      from jsonb_array_elements(worker.work_refill(v_kind, v_tenant, (p_running_max ->> v_kind)::int)) with ordinality;
  end loop;
  return jsonb_build_object('send', v_send, 'next', case when v_more then jsonb_build_array(v_kind, v_tenant) end);
end $$;
revoke all on function worker.work_sweep_waiting from public, anon, authenticated;
grant execute on function worker.work_sweep_waiting to service_role;
