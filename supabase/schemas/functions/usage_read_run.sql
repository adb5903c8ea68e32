-- One run with its progress, or the newest.
--   returns  {runId, job, trigger, status, isTrackingEnabled, startedAt, finishedAt, shardsPlanned, shardsDone,
--            shardsFailed, recordsPending, recordsApplied, duplicates, quarantined, tokens: text, batches, percent,
--            recordsPerSecond, etaSeconds} or null
create or replace function worker.usage_read_run(p_run uuid default null) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select worker.usage_run_progress(r)
    from worker.usage_runs r
   where p_run is null or r.run_id = p_run
   order by r.started_at desc
   limit 1
$$;
revoke all on function worker.usage_read_run from public, anon, authenticated;
grant execute on function worker.usage_read_run to service_role;
