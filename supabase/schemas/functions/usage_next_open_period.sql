-- The month in which a use is billed whose own month is p_period: itself, or the first later one that is not closed.
-- Never a closed month, and never an earlier one that happens to be open.
create or replace function worker.usage_next_open_period(p_period int, p_closed int[]) returns int
language plpgsql immutable security invoker set search_path = '' as $$
declare
  v_period int := p_period;
begin
  while v_period = any (p_closed) loop
    v_period := case when v_period % 100 = 12 then v_period + 89 else v_period + 1 end;
  end loop;
  return v_period;
end $$;
revoke all on function worker.usage_next_open_period from public, anon, authenticated;
grant execute on function worker.usage_next_open_period to service_role;
