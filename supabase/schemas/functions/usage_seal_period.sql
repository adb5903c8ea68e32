-- Writes down what a closed month was, a range of shards at a time, from where the call before ended; the last range
-- completes the seal. Nothing is booked into a closed month, so it does not matter when this runs.
--   p_shards  how many shards this call takes, 1 .. 256; the last call takes every further one
--   returns   {status: sealing | sealed | open}; open = the month is not closed, nothing changed
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_seal_period(p_period int, p_shards int) returns jsonb
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '20s' as $$
declare
  p worker.usage_periods;
  v_next int;
begin
  if coalesce(p_shards, 0) not between 1 and 256 then
    raise exception 'usage_argument_invalid: p_shards must be 1 to 256' using errcode = 'UL001';
  end if;
  select * into p from worker.usage_periods where period = p_period for update;
  if p.state is distinct from 'closed' then
    return jsonb_build_object('status', 'open');
  end if;
  if p.sealed_at is not null then
    return jsonb_build_object('status', 'sealed');
  end if;
  v_next := case when p.seal_next + p_shards >= 256 then 65536 else p.seal_next + p_shards end;
  insert into worker.usage_period_shards as s (period, shard, tenants, tokens, events, checksum)
  select p_period, d.shard, d.tenants, d.tokens, d.events, d.checksum
    from worker.usage_shard_digests(p_period, p.seal_next, v_next - 1) d
  on conflict on constraint usage_period_shards_pkey do update
    set tenants = excluded.tenants, tokens = excluded.tokens, events = excluded.events, checksum = excluded.checksum;
  update worker.usage_periods set seal_next = v_next where period = p_period;
  if v_next < 65536 then
    return jsonb_build_object('status', 'sealing');
  end if;
  update worker.usage_periods
     set sealed_at = clock_timestamp(), tenants = s.tenants, tokens = s.tokens, events = s.events, checksum = s.checksum
    from (select coalesce(sum(tenants), 0) as tenants, coalesce(sum(tokens), 0) as tokens,
                 coalesce(sum(events), 0) as events,
                 encode(sha256(convert_to(coalesce(string_agg(shard || E'\t' || checksum || E'\n', '' order by shard), ''),
                   'UTF8')), 'hex') as checksum
            from worker.usage_period_shards where period = p_period and checksum is not null) s
   where period = p_period;
  return jsonb_build_object('status', 'sealed');
end $$;
revoke all on function worker.usage_seal_period from public, anon, authenticated;
grant execute on function worker.usage_seal_period to service_role;
