-- Locks shards in order until the transaction ends; those that were never read are made.
create or replace function worker.usage_legacy_lock_shards(p_shard int[]) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  insert into worker.usage_shards (shard)
  select distinct shard from unnest(p_shard) as e (shard) order by shard
  on conflict on constraint usage_shards_pkey do nothing;
  perform from worker.usage_shards where shard = any (p_shard) order by shard for update;
end $$;
revoke all on function worker.usage_legacy_lock_shards from public, anon, authenticated;
grant execute on function worker.usage_legacy_lock_shards to service_role;
