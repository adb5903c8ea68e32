-- Deletes a batch of one category, the oldest first. Only rows that ended can go, whatever the caller asks for.
--   p_what    job_runs: ended before p_before, and not among the newest p_keep of their job
--             work_items: succeeded or cancelled · dead_items: dead letters · work_replays: receipts
--             alerts: resolved, with their notices · alert_messages: ended, whose notices are gone
--             reports: of days before · instances: not seen since · canaries: sent before
--   p_run, p_fence  the run that cleans up: nothing is deleted once somebody else has it
--   returns  rows deleted; less than p_limit = none are left
--   raises   JB003 job_fence_stale (permanent) · CL001 cleanup_category_unknown (permanent)
create or replace function worker.cleanup_rows(p_what text, p_before timestamptz, p_keep int, p_limit int, p_run uuid,
  p_fence bigint) returns int
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_deleted int;
begin
  perform worker.job_assert_fence(p_run, p_fence);
  case p_what
    when 'job_runs' then
      delete from worker.job_runs where id in (
        select r.id
          from worker.jobs j
          cross join lateral (
            select due_at from worker.job_runs where job_id = j.id
             order by due_at desc, id desc offset greatest(p_keep, 1) - 1 limit 1) as oldest_kept
          join worker.job_runs r on r.job_id = j.id and r.due_at < oldest_kept.due_at
         where r.finished_at < p_before
         order by r.finished_at limit p_limit
           for update of r skip locked);
    when 'work_items' then
      delete from worker.work_items where id in (
        select id from worker.work_items
         where finished_at < p_before and state in ('succeeded', 'cancelled') and settle_at is null
         order by finished_at limit p_limit for update skip locked);
    when 'dead_items' then
      delete from worker.work_items where id in (
        select id from worker.work_items
         where finished_at < p_before and state = 'dead' and settle_at is null
         order by finished_at limit p_limit for update skip locked);
    when 'work_replays' then
      delete from worker.work_replays where id in (
        select id from worker.work_replays where created_at < p_before order by created_at limit p_limit);
    when 'alerts' then
      delete from worker.alerts where id in (
        select id from worker.alerts where resolved_at < p_before
         order by resolved_at limit p_limit for update skip locked);
    when 'alert_messages' then
      delete from worker.alert_messages where id in (
        select id from worker.alert_messages m
         where ended_at < p_before
           and not exists (select from worker.alert_deliveries d where d.message_id = m.id)
         order by id limit p_limit for update skip locked);
    when 'reports' then
      delete from worker.reports where day in (
        select day from worker.reports where day < p_before::date and mail is distinct from 'sending'
         order by day limit p_limit for update skip locked);
    when 'instances' then
      delete from worker.instances where id in (
        select id from worker.instances where seen_at < p_before
         order by seen_at limit p_limit for update skip locked);
    when 'canaries' then
      delete from worker.canaries where id in (
        select id from worker.canaries c
         where sent_at < p_before
           and exists (select from worker.canaries newer where newer.queue = c.queue and newer.sent_at > c.sent_at)
         order by sent_at limit p_limit for update skip locked);
    else
      raise exception 'cleanup_category_unknown' using errcode = 'CL001';
  end case;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end $$;
revoke all on function worker.cleanup_rows from public, anon, authenticated;
grant execute on function worker.cleanup_rows to service_role;
