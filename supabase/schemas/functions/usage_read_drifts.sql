-- Differences between counters and ledger, newest first.
--   p_period, p_tenant, p_run, p_cause  only those; null = all. A run found them or saw them last
--   p_state   one state; 'open' = what stands and waits for somebody; null = all
--   p_before  id of the last row of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [see usage_drift_row], next}; next = p_before of the following page or null
create or replace function worker.usage_read_drifts(p_period int default null, p_tenant text default null,
  p_state text default null, p_run uuid default null, p_cause text default null, p_before bigint default null,
  p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with page as (
    select * from worker.usage_drifts
     where (p_period is null or period = p_period) and (p_tenant is null or tenant = p_tenant)
       and (p_run is null or run_id = p_run or last_run_id = p_run) and (p_cause is null or cause = p_cause)
       and (p_state is null or state = p_state
            or (p_state = 'open' and state in ('hold_for_approval', 'wait_for_quarantine', 'approved')))
       and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(worker.usage_drift_row(page::worker.usage_drifts) order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.usage_read_drifts from public, anon, authenticated;
grant execute on function worker.usage_read_drifts to service_role;
