-- The cursor of every shard that was ever touched, in order of shard.
--   p_retain_hours  entries applied longer ago may be trimmed
--   returns  [{shard, inc, n, cum, count, trim}]; trim = newest such entry that was not trimmed yet, or null
create or replace function worker.usage_read_cursors(p_retain_hours int default 48) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('shard', s.shard, 'inc', s.inc, 'n', s.n::text, 'cum', s.cum::text,
           'count', s.count::text, 'trim', worker.usage_trim_point(s, p_retain_hours)::text) order by s.shard), '[]')
    from worker.usage_shards s
$$;
revoke all on function worker.usage_read_cursors from public, anon, authenticated;
grant execute on function worker.usage_read_cursors to service_role;
