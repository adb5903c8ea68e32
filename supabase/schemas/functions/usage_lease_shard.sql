-- Takes a shard for a while. Saves wasted reads; correctness is the compare-and-swap in usage_apply_batch. The owner
-- of a lease may take it again; each lease gets a new fence, and whoever holds an older one can no longer apply.
--   p_ttl_ms  1 .. 3,600,000
--   returns   {status: ok, fence, shard, inc, n, cum, count, anchor} | {status: busy, until}
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_lease_shard(p_shard int, p_owner text, p_ttl_ms int default 300000)
returns jsonb language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if p_ttl_ms is null or p_ttl_ms not between 1 and 3600000 or coalesce(p_owner, '') = '' then
    raise exception 'usage_argument_invalid: p_owner must not be empty, p_ttl_ms must be 1 to 3600000'
      using errcode = 'UL001';
  end if;
  insert into worker.usage_shards (shard) values (p_shard) on conflict on constraint usage_shards_pkey do nothing;
  update worker.usage_shards
     set fence = fence + 1, lease_owner = p_owner, lease_until = v_now + p_ttl_ms * interval '1 millisecond'
   where shard = p_shard and (lease_until is null or lease_until <= v_now or lease_owner = p_owner);
  if not found then
    return jsonb_build_object('status', 'busy',
      'until', (select lease_until from worker.usage_shards where shard = p_shard));
  end if;
  return worker.usage_shard_state(p_shard) || '{"status": "ok"}';
end $$;
revoke all on function worker.usage_lease_shard from public, anon, authenticated;
grant execute on function worker.usage_lease_shard to service_role;
