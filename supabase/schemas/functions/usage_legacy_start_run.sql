-- Records a drain of the legacy lanes; idempotent per run id. Forgets up to 1000 runs of more than 400 days ago.
create or replace function worker.usage_legacy_start_run(p_run uuid, p_tracking boolean) returns void
language sql volatile security invoker set search_path = '' as $$
  with old as (
    delete from worker.usage_legacy_runs
     where run_id in (select run_id from worker.usage_legacy_runs
                       where started_at < now() - interval '400 days' order by started_at limit 1000)
    returning run_id)
  delete from worker.usage_legacy_findings where run_id in (select run_id from old);
  insert into worker.usage_legacy_runs (run_id, tracking) values (p_run, p_tracking)
  on conflict on constraint usage_legacy_runs_pkey do nothing;
$$;
revoke all on function worker.usage_legacy_start_run from public, anon, authenticated;
grant execute on function worker.usage_legacy_start_run to service_role;
