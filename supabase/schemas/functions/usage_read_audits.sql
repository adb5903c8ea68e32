-- Audits, newest first.
--   p_period  only of this month; null = all
--   p_before  only those that started before; null = from the newest
--   p_limit   1 .. 100
--   returns   [audit], see usage_audit_summary
create or replace function worker.usage_read_audits(p_period int default null, p_before timestamptz default null,
  p_limit int default 20) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(worker.usage_audit_summary(a) order by a.started_at desc), '[]')
    from (select * from worker.usage_audits
           where (p_period is null or period = p_period) and (p_before is null or started_at < p_before)
           order by started_at desc
           limit least(greatest(p_limit, 1), 100)) a
$$;
revoke all on function worker.usage_read_audits from public, anon, authenticated;
grant execute on function worker.usage_read_audits to service_role;
