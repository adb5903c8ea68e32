-- Part of usage_observe_shards: lineages that were observed and ended. What was seen and neither applied nor kept is
-- lost. The observation is used up in the same transaction, so that the fork that follows does not count it again.
--   p_ended  [{shard, inc, keptN, keptCum, keptCount}]; keptCount null = nobody counted
create or replace function worker.usage_open_observed_gaps(p_ended jsonb) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  -- Whoever applies or follows a lineage holds the shard.
  perform from worker.usage_shards
   where shard in (select shard from jsonb_to_recordset(p_ended) as e (shard int))
   order by shard for update;
  insert into worker.usage_gaps as g (shard, inc, from_n, to_n, tokens_lost, entries_lost, cause)
  select o.shard, o.inc, safe.n + 1, o.n, o.cum - safe.cum, o.count - safe.count, 'redis_rewind'
    from jsonb_to_recordset(p_ended)
      as e (shard int, inc text, "keptN" bigint, "keptCum" numeric, "keptCount" bigint)
    join worker.usage_observations o on o.shard = e.shard and o.inc = e.inc
    -- A lineage of which nothing was applied yet is known as far as it was when it was adopted.
    left join lateral (
      select case when s.cum is null then s.base_n else s.n end as n,
             case when s.cum is null then s.base_cum else s.cum end as cum,
             case when s.cum is not null then s.count end as count
        from worker.usage_shards s where s.shard = o.shard and s.inc = o.inc
      union all
      select l.last_n, l.last_cum, l.last_count from worker.usage_lineages l
       where l.shard = o.shard and l.inc = o.inc and l.last_cum is not null
      order by 1 desc
      limit 1) applied on true
   cross join lateral (
      select greatest(applied.n, e."keptN") as n,
             case when applied.n >= e."keptN" then applied.cum else e."keptCum" end as cum,
             case when greatest(applied.n, e."keptN") = 0 then 0
                  when applied.n >= e."keptN" then applied.count else e."keptCount" end as count) safe
   where o.n > safe.n and (o.cum <> safe.cum or o.count <> safe.count)
  on conflict (shard, inc, from_n) where cause = 'redis_rewind' do update
    set to_n = excluded.to_n, tokens_lost = excluded.tokens_lost, entries_lost = excluded.entries_lost,
        updated_at = now()
    where excluded.to_n > g.to_n;
  delete from worker.usage_observations o
   using jsonb_to_recordset(p_ended) as e (shard int, inc text)
   where o.shard = e.shard and o.inc = e.inc;
end $$;
revoke all on function worker.usage_open_observed_gaps from public, anon, authenticated;
grant execute on function worker.usage_open_observed_gaps to service_role;
