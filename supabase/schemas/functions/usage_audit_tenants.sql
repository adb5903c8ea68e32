-- Part of usage_audit_differences: the tenants of a month and some shards whose total is not the sum of their ledger, or
-- whose events are not what the ledger says was used. First in which of 4096 groups of tenants something differs, by the
-- mark of usage_audit_sums, then a sum for each tenant of those groups. Who is listed is then looked at exactly.
--   p_measure  tokens | events
create or replace function worker.usage_audit_tenants(p_period int, p_from int, p_to int, p_measure text)
returns text[] language plpgsql stable security invoker
set search_path = '' set jit = off set work_mem = '64MB' as $$
declare
  v_seed bigint := (random() * 9007199254740992)::bigint;
  -- Both sides of both comparisons, one row for each row of the tables.
  v_rows constant text := replace(replace($sum$
    select tenant, ?::numeric as billed, 0::numeric as used
      from worker.usage_totals
     where period = $1 and shard between $2 and $3
    union all
    select l.tenant, -l.?::numeric,
           case when l.usage_period = l.period and l.reason in ('usage', 'late', 'future', 'backfill')
                then l.?::numeric else 0::numeric end
      from worker.usage_ledger l left join worker.usage_batches b on b.batch_id = l.batch_id
     where l.period = $1
       and coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = l.tenant limit 1), 0)
           between $2 and $3
    union all
    select m.tenant, 0::numeric, m.?::numeric
      from worker.usage_audit_moved($1) m left join worker.usage_batches b on b.batch_id = m.batch_id
     where coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = m.tenant limit 1), 0)
           between $2 and $3
    union all
    select e.tenant collate "C", 0::numeric, -(!)::numeric
      from worker.usage_events e left join worker.usage_batches b on b.batch_id = e.batch_id
     where e.period = $1
       and coalesce(b.shard, (select t.shard from worker.usage_totals t where t.tenant = e.tenant limit 1), 0)
           between $2 and $3
    union all
    select tenant, 0::numeric, -?::numeric
      from worker.usage_pruned
     where period = $1 and shard between $2 and $3 $sum$,
    '?', p_measure), '!', case p_measure when 'tokens' then 'e.tokens' else '1' end);
  v_groups int[];
  v_differing text[];
begin
  execute format($sum$
    select coalesce(array_agg(place), '{}')
      from (select hashtextextended(tenant, $4)::bit(12)::int as place
              from (%s) witness
             group by 1
            having sum(hashtextextended(tenant, $4) * billed) <> 0
                or sum(hashtextextended(tenant, $4) * used) <> 0) g $sum$, v_rows)
    into v_groups using p_period, p_from, p_to, v_seed;
  execute format($sum$
    select coalesce(array_agg(tenant), '{}')
      from (select tenant
              from (%s) witness
             where hashtextextended(tenant, $4)::bit(12)::int = any ($5)
             group by tenant
            having sum(billed) <> 0 or sum(used) <> 0) t $sum$, v_rows)
    into v_differing using p_period, p_from, p_to, v_seed, v_groups;
  return v_differing;
end $$;
revoke all on function worker.usage_audit_tenants from public, anon, authenticated;
grant execute on function worker.usage_audit_tenants to service_role;
