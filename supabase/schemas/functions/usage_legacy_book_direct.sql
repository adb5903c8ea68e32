-- Books one use at once, in the month it is called. There is no request id: every call is a use.
--   p_tokens  0 .. 10^15
--   p_type    llm | embedding
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_book_direct(p_tenant text, p_tokens bigint, p_type text) returns void
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_now timestamp := now() at time zone 'UTC';
begin
  if coalesce(length(p_tenant), 0) not between 1 and 200 or p_tenant ~ '[\x01-\x1f\x7f]' then
    raise exception 'usage_argument_invalid: p_tenant_id must have 1 to 200 characters, none of them control characters'
      using errcode = 'UL001';
  end if;
  if coalesce(p_tokens, -1) not between 0 and 1000000000000000 then
    raise exception 'usage_argument_invalid: p_tokens must be a whole number from 0 to 10^15' using errcode = 'UL001';
  end if;
  perform worker.usage_legacy_book('legacy_direct', array[gen_random_uuid()], array[p_tenant],
    array[worker.usage_shard_of(p_tenant)], array[to_char(v_now, 'YYYYMM')::int],
    array[v_now::date - date '1970-01-01'], array[p_tokens::numeric], array[p_type], array['']);
end $$;
revoke all on function worker.usage_legacy_book_direct from public, anon, authenticated;
grant execute on function worker.usage_legacy_book_direct to service_role;
