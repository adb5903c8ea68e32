-- Stores what became of a mail.
--   p_mail  sent | failed: it did not arrive | unknown: nobody can say
create or replace function worker.report_settle_mail(p_day date, p_mail text) returns void
language sql volatile security invoker set search_path = '' as $$
  update worker.reports
     set mail = p_mail, mailed_at = case when p_mail = 'sent' then clock_timestamp() end
   where day = p_day and mail = 'sending'
$$;
revoke all on function worker.report_settle_mail from public, anon, authenticated;
grant execute on function worker.report_settle_mail to service_role;
