-- When a message counts as lost: 5 minutes after it could have been read, twice as long after every repetition, at most
-- 6 hours. A long queue is not a lost message, and repeating it would make it longer.
create or replace function worker.work_resend_at(p_readable timestamptz, p_sends int) returns timestamptz
language sql immutable security invoker set search_path = '' as $$
  select p_readable + least(interval '6 hours', interval '5 minutes' * power(2, least(greatest(p_sends - 1, 0), 10)))
$$;
revoke all on function worker.work_resend_at from public, anon, authenticated;
grant execute on function worker.work_resend_at to service_role;
