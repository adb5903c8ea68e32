-- Ends a run and says what it found. Idempotent; a run that succeeded stays so.
--   p_status    succeeded | failed
--   p_counters  off | compared | cluster; null = as it is
--   p_scope     settings under which every counter was read in this run; null = they were not
--   p_apart     tenants that are apart by more tokens than this are named
--   returns     {status, booked, duplicates, setAside, tokens, counters, grown, counterTokens, resets, drifts, tenantsApart,
--               worst: [{tenant, apart, cause}] at most 5}; amounts as text
create or replace function worker.usage_legacy_finish_run(p_run uuid, p_status text, p_counters text default null,
  p_scope text default null, p_error text default null, p_apart numeric default 0) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  r worker.usage_legacy_runs;
begin
  if p_scope is not null and p_status = 'succeeded' then
    insert into worker.usage_legacy_scopes (scope) values (p_scope)
    on conflict on constraint usage_legacy_scopes_pkey do nothing;
  end if;
  insert into worker.usage_legacy_runs (run_id, tracking) values (p_run, true)
  on conflict on constraint usage_legacy_runs_pkey do nothing;
  update worker.usage_legacy_runs
     set status = p_status, counters = coalesce(p_counters, counters), error_code = p_error, finished_at = now(),
         updated_at = now()
   where run_id = p_run and status <> 'succeeded';
  select * into r from worker.usage_legacy_runs where run_id = p_run;
  return jsonb_build_object('status', r.status, 'booked', r.booked, 'duplicates', r.duplicates, 'setAside', r.set_aside,
    'tokens', r.tokens::text, 'counters', r.counters, 'grown', r.grown::text, 'counterTokens', r.counter_tokens::text,
    'resets', r.resets, 'drifts', r.drifts,
    'tenantsApart', (select count(*) from worker.usage_legacy_tenants where abs(apart) > p_apart),
    'worst', (select coalesce(jsonb_agg(jsonb_build_object('tenant', tenant, 'apart', apart::text, 'cause', cause)
                order by abs(apart) desc, tenant), '[]')
                from (select tenant, apart, cause from worker.usage_legacy_tenants
                       where abs(apart) > p_apart order by abs(apart) desc, tenant limit 5) w));
end $$;
revoke all on function worker.usage_legacy_finish_run from public, anon, authenticated;
grant execute on function worker.usage_legacy_finish_run to service_role;
