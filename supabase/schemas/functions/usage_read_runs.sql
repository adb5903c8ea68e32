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
