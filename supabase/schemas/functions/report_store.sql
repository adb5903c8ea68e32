-- Keeps the report of a day.
--   returns  {made}: how often it was made
create or replace function worker.report_store(p_day date, p_data jsonb, p_html text) returns jsonb
language sql volatile security invoker set search_path = '' as $$
  insert into worker.reports as r (day, data, html) values (p_day, p_data, p_html)
  on conflict on constraint reports_pkey do update
    set data = excluded.data, html = excluded.html, made = r.made + 1, updated_at = now()
  returning jsonb_build_object('made', made)
$$;
revoke all on function worker.report_store from public, anon, authenticated;
grant execute on function worker.report_store to service_role;
