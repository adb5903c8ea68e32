-- Books one page of the pending set: uses, members set aside and the numbers of the run, in one transaction. Only then
-- may the members be removed. Repeating a call changes nothing but the duplicates.
--   p_uid .. p_conversation  as in usage_legacy_book
--   p_bad    [{raw, error, tenant, period, tokens, shard}], at most 5000
--   returns  {applied, dup, bad, tokens}; bad = members set aside now and not before
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_book_pending(p_run uuid, p_uid uuid[], p_tenant text[], p_shard int[],
  p_period int[], p_day int[], p_tokens numeric[], p_type text[], p_model text[], p_bill int[] default null,
  p_agent text[] default null, p_conversation text[] default null, p_bad jsonb default '[]') returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
declare
  v_booked jsonb;
  v_bad int;
begin
  if jsonb_array_length(p_bad) > 5000 then
    raise exception 'usage_argument_invalid: at most 5000 members set aside' using errcode = 'UL001';
  end if;
  v_booked := worker.usage_legacy_book('legacy_pending', p_uid, p_tenant, p_shard, p_period, p_day, p_tokens, p_type,
    p_model, p_bill, p_agent, p_conversation);
  with quarantined as (
    insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error, lane)
    select distinct on (shard, md5(raw)) shard, 'legacy', 0, tenant, period, tokens, raw, error, 'legacy_pending'
      from jsonb_to_recordset(p_bad)
        as b (shard int, tenant text, period int, tokens numeric, raw text, error text)
     order by shard, md5(raw)
    on conflict (shard, n, md5(raw)) do nothing
    returning 1)
  select count(*) into v_bad from quarantined;
  update worker.usage_legacy_runs
     set booked = booked + (v_booked ->> 'applied')::bigint, duplicates = duplicates + (v_booked ->> 'dup')::bigint,
         set_aside = set_aside + v_bad, tokens = tokens + (v_booked ->> 'tokens')::numeric, updated_at = now()
   where run_id = p_run;
  return v_booked || jsonb_build_object('bad', v_bad);
end $$;
revoke all on function worker.usage_legacy_book_pending from public, anon, authenticated;
grant execute on function worker.usage_legacy_book_pending to service_role;
