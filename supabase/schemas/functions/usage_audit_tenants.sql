-- Part of usage_audit_differences: the tenants of a month and some shards whose total is not the sum of their ledger, or
-- whose events are not what the ledger says was used. One sum by tenant over everything; who is listed is then looked at
-- exactly.
--   p_measure  tokens | events
--   returns    one row: their names, and how many tenants there are
create or replace function worker.usage_audit_tenants(p_period int, p_from int, p_to int, p_measure text)
returns table (differing text[], tenants bigint)
language plpgsql stable security invoker set search_path = '' set jit = off set work_mem = '64MB' as $$
declare
  v_type text;
begin
  -- As bigint the sums take half the memory and two thirds of the time; only amounts beyond 9·10^18 need numeric.
  foreach v_type in array array['bigint', 'numeric'] loop
    begin
      return query execute format($sum$
        select coalesce(array_agg(tenant) filter (where is_off), '{}'), count(*)
          from (
            select tenant, sum(billed) <> 0 or sum(used) <> 0 as is_off
              from (
                select tenant, %2$s::%1$s as billed, 0::%1$s as used
                  from worker.usage_totals
                 where period = $1 and shard between $2 and $3
                union all
                select l.tenant, -l.%2$s::%1$s,
                       case when l.usage_period = l.period and l.reason in ('usage', 'late', 'future', 'backfill')
                            then l.%2$s::%1$s else 0::%1$s end
                  from worker.usage_ledger l left join worker.usage_batches b on b.batch_id = l.batch_id
                 where l.period = $1 and l.batch_id is not null and coalesce(b.shard, 0) between $2 and $3
                union all
                select l.tenant, -l.%2$s::%1$s,
                       case when l.usage_period = l.period and l.reason in ('usage', 'late', 'future', 'backfill')
                            then l.%2$s::%1$s else 0::%1$s end
                  from worker.usage_ledger l
                  left join worker.usage_totals t on t.tenant = l.tenant and t.period = l.period
                 where l.period = $1 and l.batch_id is null and coalesce(t.shard, 0) between $2 and $3
                union all
                select l.tenant, 0::%1$s, l.%2$s::%1$s
                  from worker.usage_ledger l left join worker.usage_batches b on b.batch_id = l.batch_id
                 where l.usage_period = $1 and l.usage_period <> l.period and l.period <> $1
                   and l.reason in ('usage', 'late', 'future', 'backfill') and coalesce(b.shard, 0) between $2 and $3
                union all
                select e.tenant collate "C", 0::%1$s, -%3$s::%1$s
                  from worker.usage_events e left join worker.usage_batches b on b.batch_id = e.batch_id
                 where e.period = $1 and coalesce(b.shard, 0) between $2 and $3
                union all
                select tenant, 0::%1$s, -%2$s::%1$s
                  from worker.usage_pruned
                 where period = $1 and shard between $2 and $3) witness
             group by tenant) t $sum$, v_type, p_measure, case p_measure when 'tokens' then 'e.tokens' else '1' end)
        using p_period, p_from, p_to;
      return;
    exception when numeric_value_out_of_range then
      null;
    end;
  end loop;
end $$;
revoke all on function worker.usage_audit_tenants from public, anon, authenticated;
grant execute on function worker.usage_audit_tenants to service_role;
