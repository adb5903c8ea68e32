-- Takes an item from a worker that let its lease run out. The third time it is quarantined: something in it takes
-- workers down. The first time it is due again at once, then after up to 30 s, so that neighbours part. The caller holds the row.
--   p_random  0 up to, not including, 1
--   returns   its new state: retrying | dead | cancelled
create or replace function worker.work_recover(p_id uuid, p_random float8) returns text
language plpgsql volatile security invoker set search_path = '' as $$
declare
  c_crashes_max constant int := 3;
  v_now timestamptz := clock_timestamp();
  i worker.work_items;
  v_state text;
begin
  select * into strict i from worker.work_items where id = p_id for update;
  v_state := case when i.cancel_requested_at is not null then 'cancelled'
                  when i.crashes + 1 >= c_crashes_max then 'dead' else 'retrying' end;
  perform worker.work_end_attempt(i.id, i.fence, 'crashed');
  perform worker.work_count(i.kind, 'crashes');
  if v_state <> 'retrying' then
    perform worker.work_count(i.kind, v_state);
  end if;
  update worker.work_items
     set state = v_state, crashes = crashes + 1, lease_until = null, sent_at = null, resend_at = null, updated_at = v_now,
         due_at = case when crashes = 0 then v_now else v_now + interval '30 seconds' * p_random end,
         code = case v_state when 'dead' then 'work_poison' when 'cancelled' then 'work_cancelled' else code end,
         error = case v_state when 'dead' then format('its worker vanished %s times', crashes + 1) else error end,
         finished_at = case when v_state <> 'retrying' then v_now end,
         settle_at = case when v_state <> 'retrying' then v_now end
   where id = p_id;
  return v_state;
end $$;
revoke all on function worker.work_recover from public, anon, authenticated;
grant execute on function worker.work_recover to service_role;
