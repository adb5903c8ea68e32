-- Takes the right to mail a report: whoever gets it is the only one.
--   returns  true | false: it was mailed, is being mailed, or nobody knows whether it was
create or replace function worker.report_claim_mail(p_day date) returns boolean
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.reports set mail = 'sending' where day = p_day and (mail is null or mail = 'failed');
  return found;
end $$;
revoke all on function worker.report_claim_mail from public, anon, authenticated;
grant execute on function worker.report_claim_mail to service_role;
