-- Audits a range of shards: findings, sums and progress in one transaction. Only the range that follows what was done
-- is taken, so a repeated or a concurrent call changes nothing.
--   p_from, p_to  shards, both included; p_to 65535 = the rest
--   returns  {status: audited | stale | ended, nextShard, differences}; ended = the audit is not running
--          | {status: busy}     somebody else is at it
--          | {status: unknown}
create or replace function worker.usage_audit_shards(p_audit uuid, p_from int, p_to int) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
#variable_conflict use_column
declare
  a worker.usage_audits;
  v_sums jsonb;
  v_differences bigint;
begin
  select * into a from worker.usage_audits where audit_id = p_audit for update skip locked;
  if not found then
    return jsonb_build_object('status', case when exists (select from worker.usage_audits where audit_id = p_audit)
                                             then 'busy' else 'unknown' end);
  end if;
  if a.status <> 'running' or a.next_shard <> p_from or p_to < p_from then
    return jsonb_build_object('status', case when a.status = 'running' then 'stale' else 'ended' end,
      'nextShard', a.next_shard, 'differences', 0);
  end if;
  -- Before the statement below takes its snapshot: from here on no day is dropped, so its events or its record is seen.
  lock table worker.usage_events in access share mode;
  with finding as materialized (
    select * from worker.usage_audit_differences(a.period, p_from, p_to)),
  stored as (
    insert into worker.usage_audit_findings (audit_id, period, tenant, cause, is_difference, tokens, events, relative,
      evidence)
    select p_audit, a.period, tenant, cause, cause not in ('quarantined', 'open_gap', 'late_event', 'future_event'), tokens,
           events, relative, evidence
      from finding
     where cause is not null
     order by array_position(array['total_edited_outside_ledger', 'ledger_edited', 'double_applied', 'events_missing',
       'events_not_booked', 'events_edited', 'failed_batch', 'closed_period_changed', 'unexplained', 'quarantined',
       'open_gap', 'late_event', 'future_event'], cause), tenant
    returning is_difference)
  select (select evidence from finding where cause is null), (select count(*) from stored where is_difference)
    into v_sums, v_differences;
  update worker.usage_audits
     set next_shard = p_to + 1, chunks = chunks + 1, updated_at = now(),
         tenants = tenants + (v_sums ->> 'tenants')::bigint, total = total + (v_sums ->> 'total')::numeric,
         ledger = ledger + (v_sums ->> 'ledger')::numeric, used = used + (v_sums ->> 'used')::numeric,
         found = found + (v_sums ->> 'found')::numeric, pruned = pruned + (v_sums ->> 'pruned')::numeric
   where audit_id = p_audit;
  return jsonb_build_object('status', 'audited', 'nextShard', p_to + 1, 'differences', v_differences);
end $$;
revoke all on function worker.usage_audit_shards from public, anon, authenticated;
grant execute on function worker.usage_audit_shards to service_role;
