-- What the totals of a month are, shard by shard: the seal of a closed month, and what an audit compares with it.
--   returns  checksum: sha256, as hex, over the lines "<tenant><tab><tokens><line feed>" of the shard in order of the
--            tenant's bytes. Tenant ids hold no control characters.
create or replace function worker.usage_shard_digests(p_period int, p_from int, p_to int)
returns table (shard int, tenants bigint, tokens numeric, events bigint, checksum text)
language sql stable security invoker set search_path = '' set jit = off set work_mem = '64MB' as $$
  select t.shard, count(*), sum(t.tokens), sum(t.events)::bigint,
         encode(sha256(convert_to(string_agg(t.tenant || E'\t' || t.tokens || E'\n', '' order by t.tenant), 'UTF8')), 'hex')
    from worker.usage_totals t
   where t.period = p_period and t.shard between p_from and p_to
   group by t.shard
$$;
revoke all on function worker.usage_shard_digests from public, anon, authenticated;
grant execute on function worker.usage_shard_digests to service_role;
