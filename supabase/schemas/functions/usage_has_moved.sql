-- Part of usage_used_tokens and usage_counter_digest: whether anything happened in one of these months and is billed in
-- another, or the other way round. In most months nothing did.
create or replace function worker.usage_has_moved(p_periods int[]) returns boolean
language sql stable security invoker
set search_path = '' set enable_seqscan = off as $$ -- the planner takes moved uses for common and reads the whole ledger
  select exists (select from worker.usage_ledger where usage_period <> period and usage_period = any (p_periods))
      or exists (select from worker.usage_ledger where usage_period <> period and period = any (p_periods))
$$;
revoke all on function worker.usage_has_moved from public, anon, authenticated;
grant execute on function worker.usage_has_moved to service_role;
