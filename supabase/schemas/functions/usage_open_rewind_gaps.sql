-- Part of usage_apply_batch: a producer says how far it was acknowledged, Redis says how far that survived.
--   p_markers  [{oi: lost lineage, ln, lc: acknowledged n and running sum, cn, cc: surviving n and running sum}]
create or replace function worker.usage_open_rewind_gaps(p_shard int, p_markers jsonb) returns void
language sql volatile security invoker set search_path = '' as $$
  insert into worker.usage_gaps as g (shard, inc, from_n, to_n, tokens_lost, cause)
  select distinct on (m.oi, safe.n) p_shard, m.oi, safe.n + 1, m.ln, m.lc - safe.cum, 'redis_rewind'
    from jsonb_to_recordset(p_markers) as m (oi text, ln bigint, lc numeric, cn bigint, cc numeric)
    left join lateral (
      select last_n, last_cum from worker.usage_lineages
       where shard = p_shard and inc = m.oi
       order by last_n desc
       limit 1) applied on true
   cross join lateral (
      select greatest(m.cn, applied.last_n) as n,
             case when applied.last_n >= m.cn then applied.last_cum else m.cc end as cum) safe
   where m.ln > safe.n
   order by m.oi, safe.n, m.ln desc
  on conflict (shard, inc, from_n) where cause = 'redis_rewind' do update
    set to_n = excluded.to_n, tokens_lost = excluded.tokens_lost, entries_lost = null, updated_at = now()
    where excluded.to_n > g.to_n
$$;
revoke all on function worker.usage_open_rewind_gaps from public, anon, authenticated;
grant execute on function worker.usage_open_rewind_gaps to service_role;
