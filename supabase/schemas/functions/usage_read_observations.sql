-- How far each log was when it was last seen.
--   returns  [{shard, inc, n, cum, count, anchor}] in order of shard, at most 4096; numbers as text
create or replace function worker.usage_read_observations() returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('shard', shard, 'inc', inc, 'n', n::text, 'cum', cum::text,
           'count', count::text, 'anchor', anchor) order by shard, observed_at), '[]')
    from (select * from worker.usage_observations order by shard, observed_at limit 4096) o
$$;
revoke all on function worker.usage_read_observations from public, anon, authenticated;
grant execute on function worker.usage_read_observations to service_role;
