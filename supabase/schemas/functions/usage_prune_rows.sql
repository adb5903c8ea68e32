-- Deletes old rows that nothing needs any more, oldest first. Call it until it deletes fewer than p_limit.
--   p_what    observations: of lineages that no cursor follows; lineages: all but the newest of their shard;
--             runs: with what became of their shards; batches: all but the newest of their shard and lineage, which
--             says what may be trimmed; drifts: that are repaired, superseded or findings only; repairs: that are settled
--             and whose drifts are gone; audit_findings; audits: without findings
--   p_before  older than this
--   p_limit   1 .. 10,000
--   returns   rows deleted
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_prune_rows(p_what text, p_before timestamptz, p_limit int) returns int
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '20s' as $$
declare
  v_deleted int;
begin
  if coalesce(p_limit, 0) not between 1 and 10000 or p_before is null then
    raise exception 'usage_argument_invalid: p_limit must be 1 to 10000' using errcode = 'UL001';
  end if;
  case p_what
    when 'observations' then
      delete from worker.usage_observations where (shard, inc) in (
        select o.shard, o.inc from worker.usage_observations o
         where o.observed_at < p_before
           and not exists (select from worker.usage_shards s where s.shard = o.shard and s.inc = o.inc)
         limit p_limit);
    when 'lineages' then
      delete from worker.usage_lineages where (shard, fork) in (
        select l.shard, l.fork from worker.usage_lineages l
         where l.ended_at < p_before
           and exists (select from worker.usage_lineages n where n.shard = l.shard and n.fork > l.fork)
         limit p_limit);
    when 'runs' then
      delete from worker.usage_runs where run_id in (
        select run_id from worker.usage_runs where started_at < p_before order by started_at limit p_limit);
    when 'batches' then
      delete from worker.usage_batches where batch_id in (
        select b.batch_id from worker.usage_batches b
         where b.applied_at < p_before
           and exists (select from worker.usage_batches n
                        where n.shard = b.shard and n.fork = b.fork and n.from_n > b.from_n)
         order by b.batch_id
         limit p_limit);
    when 'drifts' then
      delete from worker.usage_drifts where id in (
        select id from worker.usage_drifts
         where seen_at < p_before and state in ('found', 'repaired', 'superseded')
         order by id
         limit p_limit);
    when 'repairs' then
      delete from worker.usage_repairs where repair_id in (
        select r.repair_id from worker.usage_repairs r
         where r.settled_at < p_before
           and not exists (select from worker.usage_drifts d where d.repair_id = r.repair_id)
         limit p_limit);
    when 'audit_findings' then
      delete from worker.usage_audit_findings where id in (
        select f.id from worker.usage_audit_findings f
         where f.audit_id in (select audit_id from worker.usage_audits where started_at < p_before)
         limit p_limit);
    when 'audits' then
      delete from worker.usage_audits where audit_id in (
        select a.audit_id from worker.usage_audits a
         where a.started_at < p_before
           and not exists (select from worker.usage_audit_findings f where f.audit_id = a.audit_id)
         order by a.started_at
         limit p_limit);
    else
      raise exception 'usage_argument_invalid: p_what is not known' using errcode = 'UL001';
  end case;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end $$;
revoke all on function worker.usage_prune_rows from public, anon, authenticated;
grant execute on function worker.usage_prune_rows to service_role;
