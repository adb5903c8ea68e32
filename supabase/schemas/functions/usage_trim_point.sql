-- Newest entry of a shard that was applied longer ago than the retention and is still to be trimmed, or null.
-- Only batches of the present visit of the lineage count: after a fork other entries may stand at the same numbers.
create or replace function worker.usage_trim_point(p_shard worker.usage_shards, p_retain_hours int) returns bigint
language sql stable security invoker set search_path = '' as $$
  select b.to_n
    from (select to_n from worker.usage_batches
           where shard = p_shard.shard and fork = p_shard.forks and to_n > 0 -- not what people booked
             and applied_at < now() - make_interval(hours => p_retain_hours)
           order by applied_at desc
           limit 1) b
   where b.to_n > p_shard.trimmed_n
$$;
revoke all on function worker.usage_trim_point from public, anon, authenticated;
grant execute on function worker.usage_trim_point to service_role;
