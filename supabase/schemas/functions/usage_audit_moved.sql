-- Part of usage_audit_sums: uses of a month that are billed in another one. Usually a handful, which no statistics say:
-- without the setting the whole ledger would be read for them.
create or replace function worker.usage_audit_moved(p_period int)
returns table (tenant text, batch_id bigint, tokens numeric, events int)
language sql stable security invoker set search_path = '' set enable_seqscan = off as $$
  select l.tenant, l.batch_id, l.tokens, l.events
    from worker.usage_ledger l
   where l.usage_period = p_period and l.usage_period <> l.period
     and l.reason in ('usage', 'late', 'future', 'backfill')
$$;
revoke all on function worker.usage_audit_moved from public, anon, authenticated;
grant execute on function worker.usage_audit_moved to service_role;
