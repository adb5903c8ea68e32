-- One report.
--   p_html   whether the page is wanted, or the data
--   returns  {data} | {html}; null = there is none
create or replace function worker.report_read(p_day date, p_html boolean) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select case when p_html then jsonb_build_object('html', html) else jsonb_build_object('data', data) end
    from worker.reports where day = p_day
$$;
revoke all on function worker.report_read from public, anon, authenticated;
grant execute on function worker.report_read to service_role;
