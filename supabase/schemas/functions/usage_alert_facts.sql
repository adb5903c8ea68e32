-- What the usage alerts are judged by, in one read.
--   p_tokens_min   drifts of fewer tokens are left out, unless they are p_relative_min of the tenant's month and more
--                  than p_relative_tokens_min
--                    Findings that are serious whatever their amount are always there
--   p_planned_before  what was planned until then should have been visited by now
--   p_now          the caller's clock
--   p_limit        rows of each list at the most, the greatest first, 1 .. 500
--   returns  {audits: [{auditId, period, causes, findings: [{tenant, cause, tokens, relative, evidence}]}],
--            consolidation: {runId, findings: [{period, and as above}]} or null,
--            gaps: [{shard, tokens, entries, ids}], quarantine: {entries, oldest, errors: {error: number}},
--            lag: {shards, since, sample}, lastRunAt, lastRecordAt, installedAt,
--            heldPeriods: [{period, graceUntil, heldBy}], open: [{key, level}]}; amounts as text
--            audits: the newest that succeeded of each of the last three months that have one; consolidation: the
--            newest that ended
create or replace function worker.usage_alert_facts(p_tokens_min numeric, p_relative_min numeric,
  p_relative_tokens_min numeric, p_planned_before timestamptz, p_now timestamptz, p_limit int default 200) returns jsonb
language plpgsql stable security invoker set search_path = '' set timezone = 'UTC' set jit = off
set statement_timeout = '20s' as $$
declare
  v_limit int := least(greatest(p_limit, 1), 500);
  v_facts jsonb;
begin
  select jsonb_build_object('audits', coalesce(jsonb_agg(jsonb_build_object('auditId', a.audit_id, 'period', a.period,
           'causes', a.causes, 'findings', f.findings) order by a.period desc), '[]'))
    into v_facts
    from (select distinct on (period) * from worker.usage_audits
           where status = 'succeeded'
             and period in (select distinct period from worker.usage_audits where status = 'succeeded'
                             order by period desc limit 3)
           order by period, finished_at desc) a
   cross join lateral (
      select coalesce(jsonb_agg(jsonb_build_object('tenant', tenant, 'cause', cause, 'tokens', tokens::text,
               'relative', relative::text, 'evidence', evidence)), '[]') as findings
        from (select * from worker.usage_audit_findings
               where audit_id = a.audit_id and is_difference
                 and (abs(tokens) >= p_tokens_min or cause in ('unexplained', 'closed_period_changed', 'failed_batch')
                      or (relative >= p_relative_min and abs(tokens) > p_relative_tokens_min))
               order by cause in ('unexplained', 'closed_period_changed') desc, abs(tokens) desc, id
               limit v_limit) f) f;

  v_facts := v_facts || jsonb_build_object('consolidation', (
    select jsonb_build_object('runId', r.run_id, 'findings', f.findings)
      from (select run_id from worker.usage_runs
             where job = 'weekly_consolidation' and finished_at is not null
             order by started_at desc
             limit 1) r
     cross join lateral (
        select coalesce(jsonb_agg(jsonb_build_object('tenant', tenant, 'period', period, 'cause', cause,
                 'tokens', drift::text, 'relative', relative::text, 'evidence', jsonb_build_object('driftId', id::text,
                 'shard', shard, 'counter', redis::text, 'used', used::text, 'state', state))), '[]') as findings
          from (select *
                  from (select *, round(abs(drift) / nullif(abs(used), 0), 6) as relative
                          from worker.usage_drifts where last_run_id = r.run_id) d
                 where abs(drift) >= p_tokens_min
                    or (relative >= p_relative_min and abs(drift) > p_relative_tokens_min)
                 order by abs(drift) desc, id
                 limit v_limit) d) f));

  v_facts := v_facts || jsonb_build_object('gaps', (
    select coalesce(jsonb_agg(jsonb_build_object('shard', shard, 'tokens', tokens::text, 'entries', entries::text,
             'ids', ids) order by abs(tokens) desc, shard), '[]')
      from (select shard, sum(tokens_lost - recovered) as tokens, sum(coalesce(entries_lost, 0) - entries_recovered) as entries,
                   to_jsonb((array_agg(id::text order by id))[1:10]) as ids
              from worker.usage_gaps
             where tokens_lost <> recovered or entries_lost <> entries_recovered
             group by shard
             order by abs(sum(tokens_lost - recovered)) desc, shard
             limit v_limit) g));

  v_facts := v_facts || (
    select jsonb_build_object('quarantine', jsonb_build_object('entries', coalesce(sum(entries), 0), 'oldest', min(oldest),
             'errors', coalesce(jsonb_object_agg(error, entries), '{}')))
      from (select error, count(*) as entries, min(detected_at) as oldest
              from worker.usage_quarantine where resolved_at is null group by error) q);

  -- Planned long enough ago, by one of the last runs before that, and neither visited since nor reported as done.
  v_facts := v_facts || (
    select jsonb_build_object('lag', jsonb_build_object('shards', count(*), 'since', min(planned_at),
             'sample', coalesce(to_jsonb((array_agg(shard order by planned_at, shard))[1:10]), '[]')))
      from (select p.shard, min(r.started_at) as planned_at
              from (select run_id, started_at from worker.usage_runs
                     where job = 'daily_reconciliation' and started_at <= p_planned_before
                     order by started_at desc
                     limit 20) r
              join worker.usage_run_shards p on p.run_id = r.run_id and p.state <> 'done'
              join worker.usage_shards s on s.shard = p.shard and s.updated_at < r.started_at
             where not exists (
               select from worker.usage_run_shards d
                where d.shard = p.shard and d.state = 'done' and d.updated_at >= r.started_at)
             group by p.shard) lagging);

  return v_facts || jsonb_build_object(
    'lastRunAt', (select max(started_at) from worker.usage_runs where job = 'daily_reconciliation'),
    'installedAt', (select min(installed_at) from worker.installations),
    'lastRecordAt', (
      select max(at)
        from (select max(observed_at) as at from worker.usage_observations
              union all
              select max(applied_at)
                from (select applied_at, applied from worker.usage_batches order by batch_id desc limit 1000) b
               where applied > 0) seen),
    'heldPeriods', (
      select coalesce(jsonb_agg(jsonb_build_object('period', period, 'graceUntil', grace_until, 'heldBy', held_by)
               order by period), '[]')
        from (select * from worker.usage_periods where state = 'closing' and grace_until < p_now order by period limit 24) p),
    'open', (
      select coalesce(jsonb_agg(jsonb_build_object('key', key, 'level', level) order by id), '[]')
        from (select * from worker.alerts
               where resolved_at is null
                 and kind in ('usage_drift', 'usage_unexplained', 'usage_loss', 'usage_lag', 'usage_silence',
                   'usage_quarantine', 'usage_tracking_disabled', 'usage_period_held', 'usage_not_run')
               order by id
               limit 2000) a));
end $$;
revoke all on function worker.usage_alert_facts from public, anon, authenticated;
grant execute on function worker.usage_alert_facts to service_role;
