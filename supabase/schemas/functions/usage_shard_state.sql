-- The cursor of one shard; its row is made when it is missing.
--   returns  {shard, inc, n, cum, count, anchor, fence, forks}; numbers of the log and the fence as text
create or replace function worker.usage_shard_state(p_shard int) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  insert into worker.usage_shards (shard) values (p_shard) on conflict on constraint usage_shards_pkey do nothing;
  select jsonb_build_object('shard', s.shard, 'inc', s.inc, 'n', s.n::text, 'cum', s.cum::text,
           'count', s.count::text, 'anchor', s.anchor, 'fence', s.fence::text, 'forks', s.forks)
    from worker.usage_shards s
   where s.shard = p_shard
$$;
revoke all on function worker.usage_shard_state from public, anon, authenticated;
grant execute on function worker.usage_shard_state to service_role;
