-- First instant of a month, UTC.
create or replace function worker.usage_period_start(p_period int) returns timestamptz
language sql immutable strict security invoker set search_path = '' as $$
  select make_timestamptz(p_period / 100, p_period % 100, 1, 0, 0, 0, 'UTC')
$$;
revoke all on function worker.usage_period_start from public, anon, authenticated;
grant execute on function worker.usage_period_start to service_role;
