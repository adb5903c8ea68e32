-- Months that the closing job has to look at: those that are over and not closed, from the one after the last closed
-- month on (or from the installation), those that are closing, and closed ones whose seal is not complete.
--   p_now    the caller's clock
--   returns  [yyyymm], earliest first, at most 24
create or replace function worker.usage_due_periods(p_now timestamptz) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(period order by period), '[]')
    from (select to_char(month, 'YYYYMM')::int as period
            from generate_series(
                   coalesce((select worker.usage_period_start(max(period)) + interval '1 month'
                               from worker.usage_periods where state = 'closed'),
                            (select date_trunc('month', min(installed_at)) from worker.installations)),
                   date_trunc('month', p_now) - interval '1 month', interval '1 month') as month
          union
          select period from worker.usage_periods
           where state = 'closing' or (state = 'closed' and sealed_at is null)
           order by period
           limit 24) p
$$;
revoke all on function worker.usage_due_periods from public, anon, authenticated;
grant execute on function worker.usage_due_periods to service_role;
