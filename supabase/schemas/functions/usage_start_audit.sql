-- Starts the audit of a month, or finds the one that was asked for with the same key; one that failed goes on where it
-- ended.
--   p_trigger  timer | close | manual
--   returns    {auditId, status, nextShard, rows}; rows = an estimate of what has to be read
create or replace function worker.usage_start_audit(p_key text, p_period int, p_trigger text, p_who text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  a worker.usage_audits;
begin
  insert into worker.usage_audits (audit_id, key, period, trigger, requested_by)
  values (gen_random_uuid(), p_key, p_period, p_trigger, p_who)
  on conflict on constraint usage_audits_key_key do update
    set status = 'running', error_code = null, finished_at = null, updated_at = now()
    where usage_audits.status = 'failed';
  select * into a from worker.usage_audits where key = p_key;
  return jsonb_build_object('auditId', a.audit_id, 'status', a.status, 'nextShard', a.next_shard, 'rows', (
    -- The events of about a month, and the ledger by what the statistics last said.
    select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
      from pg_catalog.pg_class c
     where c.relnamespace = 'worker'::regnamespace
       and (c.relname = 'usage_ledger' or c.relname ~ ('^usage_events_' || a.period || '\d{2}$'))));
end $$;
revoke all on function worker.usage_start_audit from public, anon, authenticated;
grant execute on function worker.usage_start_audit to service_role;
