-- Takes items of a kind from workers that let their lease run out. Those that go on are sent by work_sweep_waiting.
--   p_limit  1 .. 1000
--   returns  {recovered, ended: number of those that were recovered for the last time}
create or replace function worker.work_sweep_expired(p_kind text, p_limit int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_recovered int := 0;
  v_ended int := 0;
  v_id uuid;
begin
  for v_id in select id from worker.work_items
               where state = 'running' and lease_until < clock_timestamp() and kind = p_kind
               order by lease_until limit least(greatest(p_limit, 1), 1000) for update skip locked loop
    v_recovered := v_recovered + 1;
    v_ended := v_ended + (worker.work_recover(v_id, random()) <> 'retrying')::int;
  end loop;
  return jsonb_build_object('recovered', v_recovered, 'ended', v_ended);
end $$;
revoke all on function worker.work_sweep_expired from public, anon, authenticated;
grant execute on function worker.work_sweep_expired to service_role;
