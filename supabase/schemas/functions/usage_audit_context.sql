-- Part of usage_audit_differences: what else is known about a month and some shards. Information, but for a closed month
-- that is not what it was when it was closed.
--   p_has_moved  whether any use of the month is billed in another one, or the other way round
create or replace function worker.usage_audit_context(p_period int, p_from int, p_to int, p_has_moved boolean)
returns table (tenant text, cause text, tokens numeric, events bigint, relative numeric, evidence jsonb)
language plpgsql stable security invoker set search_path = '' set jit = off set work_mem = '64MB' as $$
#variable_conflict use_column
declare
  p worker.usage_periods;
begin
  select * into p from worker.usage_periods where period = p_period;
  if p.state = 'closed' then
    return query
    select l.tenant, 'closed_period_changed', sum(l.tokens), sum(l.events)::bigint, null::numeric,
           jsonb_build_object('closedAt', p.closed_at, 'ledger', to_jsonb((array_agg(l.id::text order by l.id))[1:20]))
      from worker.usage_ledger l
      join worker.usage_totals t on t.tenant = l.tenant and t.period = l.period and t.shard between p_from and p_to
     where l.period = p_period and l.booked_at > p.closed_at
     group by l.tenant;
  end if;
  if p.sealed_at is not null then
    return query
    select null::text, 'closed_period_changed', coalesce(d.tokens, 0) - coalesce(s.tokens, 0),
           coalesce(d.events, 0) - coalesce(s.events, 0), null::numeric,
           jsonb_build_object('shard', coalesce(s.shard, d.shard), 'sealed', s.checksum, 'found', d.checksum)
      from (select * from worker.usage_period_shards
             where period = p_period and shard between p_from and p_to and checksum is not null) s
      full join worker.usage_shard_digests(p_period, p_from, p_to) d on d.shard = s.shard
     where s.checksum is distinct from d.checksum;
  end if;

  return query
  select q.tenant, 'quarantined', coalesce(sum(q.tokens), 0), count(*), null::numeric,
         jsonb_build_object('quarantine', to_jsonb((array_agg(q.id::text order by q.id))[1:20]))
    from worker.usage_quarantine q
   where q.resolved_at is null and q.period = p_period and q.shard between p_from and p_to
   group by q.tenant;
  return query
  select null::text, 'open_gap', sum(g.tokens_lost - g.recovered), sum(g.entries_lost - g.entries_recovered)::bigint,
         null::numeric,
         jsonb_build_object('shard', g.shard, 'gapCause', g.cause, 'gaps', to_jsonb((array_agg(g.id::text order by g.id))[1:20]))
    from worker.usage_gaps g
   where g.shard between p_from and p_to and (g.tokens_lost <> g.recovered or g.entries_lost <> g.entries_recovered)
     and g.detected_at >= worker.usage_period_start(p_period)
     and g.detected_at < worker.usage_period_start(p_period) + interval '1 month' + interval '35 days'
   group by g.shard, g.cause;
  if not p_has_moved then
    return;
  end if;
  return query
  select l.tenant, l.reason || '_event', sum(l.tokens), sum(l.events)::bigint, null::numeric,
         jsonb_build_object('happenedIn', l.usage_period, 'billedIn', l.period,
           'ledger', to_jsonb((array_agg(l.id::text order by l.id))[1:20]))
    from (select * from worker.usage_ledger where usage_period = p_period and usage_period <> period and period <> p_period
          union all
          select * from worker.usage_ledger where period = p_period and usage_period <> p_period) l
    join worker.usage_batches b on b.batch_id = l.batch_id and b.shard between p_from and p_to
   where l.reason in ('late', 'future')
   group by l.tenant, l.reason, l.usage_period, l.period;
end $$;
revoke all on function worker.usage_audit_context from public, anon, authenticated;
grant execute on function worker.usage_audit_context to service_role;
