-- Lets a tenant's next items into the storage queues: as many as it may run, the most urgent first. The rest waits here,
-- so that nobody stands behind all the items of another tenant. What starts within 75 s goes out with a delay; of those
-- it may have as many again. The caller holds work_lock.
--   p_running_max  items of the tenant that may run at once
--   returns        [{id, priority, delayMs}], marked as sent
create or replace function worker.work_refill(p_kind text, p_tenant text, p_running_max int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  c_ahead constant interval := '75 seconds';
  v_now timestamptz := clock_timestamp();
  v_ids uuid[];
  v_sent jsonb;
begin
  if not exists (
    select from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is null and state in ('queued', 'retrying')
       and due_at <= v_now + c_ahead) then
    return '[]';
  end if;
  with running as (
    select count(*) as n from worker.work_items where kind = p_kind and tenant = p_tenant and state = 'running'
  ), sent as (
    select rank, due_at <= v_now as is_due, count(*) as n from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is not null and state in ('queued', 'retrying')
       and due_at <= v_now + c_ahead
     group by 1, 2
  ), due as (
    select id, rank, row_number() over (order by rank, due_at, seq) as place from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is null and state in ('queued', 'retrying')
       and due_at <= v_now
     order by rank, due_at, seq limit p_running_max
  ), soon as (
    select id, row_number() over (order by due_at, seq) as place from worker.work_items
     where kind = p_kind and tenant = p_tenant and sent_at is null and state in ('queued', 'retrying')
       and due_at > v_now and due_at <= v_now + c_ahead
     order by due_at, seq limit p_running_max
  )
  -- Ids first: joined with the update, a plan without statistics would choose them anew for every waiting item.
  select array_agg(id) into v_ids from (
    select id from due
     where place + (select n from running)
             + coalesce((select sum(n) from sent where is_due and sent.rank <= due.rank), 0) <= p_running_max
     union all
    select id from soon
     where place + coalesce((select sum(n) from sent where not is_due), 0) <= p_running_max) chosen;
  with marked as (
    update worker.work_items w
       set sent_at = v_now, sends = 1, resend_at = worker.work_resend_at(greatest(v_now, due_at), 1), updated_at = v_now
     where w.id = any (v_ids) and w.sent_at is null and w.state in ('queued', 'retrying')
    returning w.id, w.rank, w.priority, w.due_at, w.seq)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'priority', priority,
           'delayMs', greatest(0, ceil(extract(epoch from due_at - v_now) * 1000)::bigint)) order by rank, due_at, seq), '[]')
    into v_sent from marked;
  return v_sent;
end $$;
revoke all on function worker.work_refill from public, anon, authenticated;
grant execute on function worker.work_refill to service_role;
