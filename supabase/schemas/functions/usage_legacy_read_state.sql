-- The legacy lanes as the readers show them.
--   p_limit  1 .. 200 runs, findings and tenants of each
--   returns  {days, lanes: [{lane, uses, duplicates, tokens, lastDay}], runs: [{runId, status, isTrackingEnabled, booked,
--            duplicates, setAside, tokens, counters, grown, counterTokens, resets, drifts, errorCode, startedAt,
--            finishedAt}], findings: [{id, runId, kind, tenant, cause, tokens, evidence, detectedAt}], tenants: [{tenant,
--            apart, cause, direct, pending, counter, grown, comparedAt}], counters}
--            lanes of the last `days` days; tenants that are apart, worst first; counters = how many are remembered;
--            amounts as text
create or replace function worker.usage_legacy_read_state(p_limit int default 20) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with bounds as (
    select least(greatest(p_limit, 1), 200) as rows, 35 as days, now()::date - date '1970-01-01' as today),
  lane as (
    select b.lane, sum(b.applied) as uses, sum(b.dup) as duplicates, sum(b.tokens) as tokens,
           date '1970-01-01' + max(b.from_n)::int as last_day
      from worker.usage_batches b, bounds
     where b.lane <> 'log' and b.from_n > today - days
     group by b.lane),
  run as (select r.* from worker.usage_legacy_runs r order by started_at desc limit (select rows from bounds)),
  finding as (select f.* from worker.usage_legacy_findings f order by id desc limit (select rows from bounds)),
  tenant as (
    select t.* from worker.usage_legacy_tenants t
     where t.apart <> 0 order by abs(t.apart) desc, t.tenant limit (select rows from bounds))
  select jsonb_build_object(
      'days', (select days from bounds),
      'lanes', (select coalesce(jsonb_agg(jsonb_build_object('lane', lane, 'uses', uses, 'duplicates', duplicates,
                  'tokens', tokens::text, 'lastDay', last_day) order by lane), '[]') from lane),
      'runs', (select coalesce(jsonb_agg(jsonb_build_object('runId', run_id, 'status', status,
                 'isTrackingEnabled', tracking, 'booked', booked, 'duplicates', duplicates, 'setAside', set_aside,
                 'tokens', tokens::text, 'counters', counters, 'grown', grown::text,
                 'counterTokens', counter_tokens::text, 'resets', resets, 'drifts', drifts, 'errorCode', error_code,
                 'startedAt', started_at, 'finishedAt', finished_at) order by started_at desc), '[]') from run),
      'findings', (select coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'runId', run_id, 'kind', kind,
                     'tenant', tenant, 'cause', cause, 'tokens', tokens::text, 'evidence', evidence,
                     'detectedAt', detected_at) order by id desc), '[]') from finding),
      'tenants', (select coalesce(jsonb_agg(jsonb_build_object('tenant', tenant, 'apart', apart::text, 'cause', cause,
                    'direct', direct::text, 'pending', pending::text, 'counter', counter::text, 'grown', grown::text,
                    'comparedAt', compared_at) order by abs(apart) desc, tenant), '[]') from tenant),
      'counters', (select count(*) from worker.usage_legacy_counters))
$$;
revoke all on function worker.usage_legacy_read_state from public, anon, authenticated;
grant execute on function worker.usage_legacy_read_state to service_role;
