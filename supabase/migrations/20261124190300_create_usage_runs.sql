-- Why: an operator sees what each reconciliation planned, how far it is, and which shard failed.
-- Lock: new tables and functions only.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: does not know these objects.

-- Reconciliation runs and what became of each planned shard.

create table if not exists worker.usage_runs (
  run_id uuid not null,
  job text not null,
  trigger text not null,
  status text not null default 'planned',
  tracking boolean not null,               -- was usage tracking switched on
  shards int not null,
  pending bigint not null,                 -- records waiting when the run was planned, an estimate after a rewind
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint usage_runs_pkey primary key (run_id),
  constraint usage_runs_status_check check (status in ('planned', 'running', 'succeeded', 'failed')),
  constraint usage_runs_finished_check check ((finished_at is not null) = (status in ('succeeded', 'failed')))
);
create index if not exists usage_runs_started_at_idx on worker.usage_runs (started_at desc);
create index if not exists usage_runs_job_idx on worker.usage_runs (job, started_at desc);
alter table worker.usage_runs enable row level security;
grant select, insert, update, delete on worker.usage_runs to service_role;

create table if not exists worker.usage_run_shards (
  run_id uuid not null,
  shard int not null,
  state text not null default 'planned',
  pending bigint not null,
  applied bigint not null default 0,
  dup bigint not null default 0,
  bad bigint not null default 0,
  tokens numeric not null default 0,
  batches int not null default 0,
  error_code text,
  updated_at timestamptz not null default now(),
  constraint usage_run_shards_pkey primary key (run_id, shard),
  constraint usage_run_shards_run_id_fkey foreign key (run_id) references worker.usage_runs (run_id) on delete cascade,
  constraint usage_run_shards_state_check check (state in ('planned', 'running', 'done', 'failed')),
  constraint usage_run_shards_pending_check check (pending >= 0)
) with (fillfactor = 70);
alter table worker.usage_run_shards enable row level security;
grant select, insert, update, delete on worker.usage_run_shards to service_role;

-- Records a planned reconciliation. Idempotent per run id. A run without shards has nothing to do and is finished.
--   p_trigger   timer | manual
--   p_shards    [{shard, pending: records waiting}], at most 4096
--   p_tracking  whether usage tracking is switched on
--   returns     {status: started | known}
--   raises      UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_start_run(p_run uuid, p_job text, p_trigger text, p_shards jsonb,
  p_tracking boolean default true) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_shards int := jsonb_array_length(p_shards);
begin
  if v_shards > 4096 then
    raise exception 'usage_argument_invalid: more than 4096 shards' using errcode = 'UL001';
  end if;
  insert into worker.usage_runs (run_id, job, trigger, tracking, shards, pending, status, finished_at)
  select p_run, p_job, p_trigger, p_tracking, v_shards,
         coalesce((select sum((e ->> 'pending')::bigint) from jsonb_array_elements(p_shards) e), 0),
         case when v_shards = 0 then 'succeeded' else 'planned' end,
         case when v_shards = 0 then now() end
  on conflict on constraint usage_runs_pkey do nothing;
  if not found then
    return jsonb_build_object('status', 'known');
  end if;
  insert into worker.usage_run_shards (run_id, shard, pending)
  select p_run, shard, pending from jsonb_to_recordset(p_shards) as e (shard int, pending bigint);
  return jsonb_build_object('status', 'started');
end $$;
revoke all on function worker.usage_start_run from public, anon, authenticated;
grant execute on function worker.usage_start_run to service_role;

-- What became of a shard in a run. The numbers come from the batches of the run, so a repeated report cannot double
-- them. The state only moves forward: planned, running, failed, done; a failed shard that is sent again may still be
-- done. The run ends with its last shard.
--   p_state   running | failed | done
--   p_error   error code of a failed shard
--   returns   {status: ok, run: status of the run, finished: this report ended it} | {status: unknown}
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_report_shard(p_run uuid, p_shard int, p_state text, p_error text default null)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_order constant text[] := array['planned', 'running', 'failed', 'done'];
  v_before text;
  v_after text;
begin
  if coalesce(p_state, '') not in ('running', 'failed', 'done') then
    raise exception 'usage_argument_invalid: p_state must be running, failed or done' using errcode = 'UL001';
  end if;
  -- The lock on the run orders the reports of its shards: one of them sees that it is the last.
  select status into v_before from worker.usage_runs where run_id = p_run for update;
  update worker.usage_run_shards r
     set state = v_order[greatest(array_position(v_order, r.state), array_position(v_order, p_state))],
         applied = b.applied, dup = b.dup, bad = b.bad, tokens = b.tokens, batches = b.batches,
         error_code = case p_state when 'failed' then p_error when 'done' then null else r.error_code end,
         updated_at = now()
    from (select coalesce(sum(applied), 0) as applied, coalesce(sum(dup), 0) as dup, coalesce(sum(bad), 0) as bad,
                 coalesce(sum(tokens), 0) as tokens, count(*) as batches
            from worker.usage_batches where run_id = p_run and shard = p_shard) b
   where r.run_id = p_run and r.shard = p_shard;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  select case when bool_or(state in ('planned', 'running')) then 'running'
              when bool_or(state = 'failed') then 'failed'
              else 'succeeded' end
    into v_after from worker.usage_run_shards where run_id = p_run;
  update worker.usage_runs
     set status = v_after, finished_at = case when v_after <> 'running' then now() end
   where run_id = p_run and status <> v_after;
  return jsonb_build_object('status', 'ok', 'run', v_after, 'finished', v_after <> v_before and v_after <> 'running');
end $$;
revoke all on function worker.usage_report_shard from public, anon, authenticated;
grant execute on function worker.usage_report_shard to service_role;

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

-- The newest runs first, as usage_read_run shows them.
--   p_limit  1 .. 200
create or replace function worker.usage_read_runs(p_limit int default 20) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(worker.usage_run_progress(r) order by r.started_at desc, r.run_id), '[]')
    from (select * from worker.usage_runs
           order by started_at desc
           limit least(greatest(p_limit, 1), 200)) r
$$;
revoke all on function worker.usage_read_runs from public, anon, authenticated;
grant execute on function worker.usage_read_runs to service_role;

-- When a job last ran, for the health checks.
--   returns  {installedAt, lastStartedAt, lastFinishedAt, lastStatus}; null = never
create or replace function worker.usage_read_scheduler(p_job text) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('installedAt', i.installed_at, 'lastStartedAt', started.started_at,
           'lastStatus', started.status, 'lastFinishedAt', finished.finished_at)
    from worker.installations i
    left join lateral (
      select started_at, status from worker.usage_runs
       where job = p_job
       order by started_at desc
       limit 1) started on true
    left join lateral (
      select finished_at from worker.usage_runs
       where job = p_job and finished_at is not null
       order by started_at desc
       limit 1) finished on true
$$;
revoke all on function worker.usage_read_scheduler from public, anon, authenticated;
grant execute on function worker.usage_read_scheduler to service_role;
