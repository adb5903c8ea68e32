-- Part of usage_apply_batch: sets aside records whose event is booked with another amount. The first amount wins; the
-- same entry read again changes nothing, because its raw text is the same.
--   returns  records that conflict, whether or not they were set aside before
create or replace function worker.usage_quarantine_conflicts(p_shard int, p_inc text, p_uid uuid[], p_tenant text[],
  p_period int[], p_day int[], p_tokens bigint[]) returns int
language plpgsql volatile security invoker
set search_path = '' set enable_hashjoin = off set enable_mergejoin = off as $$ -- the keys of a batch, not whole days
declare
  v_conflicting int;
begin
  with conflict as (
    select u.*, e.tokens as booked
      from unnest(p_uid, p_tenant, p_period, p_day, p_tokens) as u (uid, tenant, period, day, tokens)
      join worker.usage_events e on e.day = date '1970-01-01' + u.day and e.uid = u.uid and e.tokens <> u.tokens),
  quarantined as (
    insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error)
    select p_shard, p_inc, 0, tenant, period, tokens,
           json_build_object('uid', uid, 'day', day, 'tokens', tokens::text, 'booked', booked::text)::text,
           'duplicate_with_other_amount'
      from conflict
    on conflict (shard, n, md5(raw)) do nothing)
  select count(*) into v_conflicting from conflict;
  return v_conflicting;
end $$;
revoke all on function worker.usage_quarantine_conflicts from public, anon, authenticated;
grant execute on function worker.usage_quarantine_conflicts to service_role;
