-- A run as the readers show it.
create or replace function worker.usage_run_progress(p_run worker.usage_runs) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object(
      'runId', p_run.run_id, 'job', p_run.job, 'trigger', p_run.trigger, 'status', p_run.status,
      'isTrackingEnabled', p_run.tracking, 'startedAt', p_run.started_at, 'finishedAt', p_run.finished_at,
      'shardsPlanned', p_run.shards, 'shardsDone', done, 'shardsFailed', failed,
      'recordsPending', p_run.pending, 'recordsApplied', applied, 'duplicates', dup, 'quarantined', bad,
      'tokens', tokens::text, 'batches', batches,
      'percent', case when p_run.status = 'succeeded' then 100
                      when p_run.pending > 0 then least(99.9, round(100 * read / p_run.pending, 1))
                      else round(100.0 * done / p_run.shards, 1) end,
      'recordsPerSecond', round(rate, 1),
      'etaSeconds', case when p_run.finished_at is not null then 0
                         when rate > 0 then ceil(greatest(p_run.pending - read, 0) / rate) end)
    from (select *, read / nullif(seconds, 0) as rate
            from (select count(*) filter (where state = 'done') as done,
                         count(*) filter (where state = 'failed') as failed,
                         coalesce(sum(applied), 0) as applied, coalesce(sum(dup), 0) as dup,
                         coalesce(sum(bad), 0) as bad, coalesce(sum(applied + dup + bad), 0) as read,
                         coalesce(sum(tokens), 0) as tokens, coalesce(sum(batches), 0) as batches,
                         extract(epoch from coalesce(p_run.finished_at, clock_timestamp()) - p_run.started_at)
                           as seconds
                    from worker.usage_run_shards where run_id = p_run.run_id) shards) progress
$$;
revoke all on function worker.usage_run_progress from public, anon, authenticated;
grant execute on function worker.usage_run_progress to service_role;
