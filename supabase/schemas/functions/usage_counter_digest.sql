-- Part of usage_match_shards: what the counters of a shard and month have to be, as one hash that the worker
-- computes of the counters in the same way: MD5 of the lines `<tokens> <tenant>`, by tenant, without those that are 0.
create or replace function worker.usage_counter_digest(p_shard int, p_period int) returns text
language sql stable security invoker set search_path = '' as $$
  select md5(coalesce(string_agg(concat(used, ' ', tenant), e'\n' order by tenant collate "C"), ''))
    from worker.usage_used_tokens(p_shard, array[p_period])
   where used <> 0
$$;
revoke all on function worker.usage_counter_digest from public, anon, authenticated;
grant execute on function worker.usage_counter_digest to service_role;
