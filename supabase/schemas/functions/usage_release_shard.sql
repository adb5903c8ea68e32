-- Gives a lease back. Safe to repeat; a lease that somebody else took meanwhile stays theirs.
--   returns  {status: ok | stale}
create or replace function worker.usage_release_shard(p_shard int, p_fence bigint) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.usage_shards set lease_owner = null, lease_until = null where shard = p_shard and fence = p_fence;
  return jsonb_build_object('status', case when found then 'ok' else 'stale' end);
end $$;
revoke all on function worker.usage_release_shard from public, anon, authenticated;
grant execute on function worker.usage_release_shard to service_role;
