-- Why: what happened yesterday, on one page, kept and mailed.
-- Lock: none; everything is new.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; nothing calls the new functions.

-- Reports, one for each day. Made again, a report replaces the one before.
create table if not exists worker.reports (
  day date not null,                       -- in UTC
  data jsonb not null,
  html text not null,                      -- the whole page, without anything from elsewhere
  made int not null default 1,             -- how often it was made
  mail text,                               -- null = not mailed. Claimed before it is sent: a day is mailed at most once
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  mailed_at timestamptz,
  constraint reports_pkey primary key (day),
  constraint reports_mail_check check (mail in ('sending', 'sent', 'failed', 'unknown')),
  constraint reports_size_check check (octet_length(html) <= 1048576 and octet_length(data::text) <= 1048576)
);
alter table worker.reports enable row level security;
grant select, insert, update, delete on worker.reports to service_role;

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

-- Reports, newest first.
--   p_before  only older days; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{day, made, mail, createdAt, updatedAt, mailedAt}], next}; next = p_before of the following page or
--             null
create or replace function worker.report_list(p_before date default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select day, made, mail, created_at, updated_at, mailed_at from worker.reports
     where p_before is null or day < p_before
     order by day desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('day', day, 'made', made, 'mail', mail, 'createdAt', created_at,
        'updatedAt', updated_at, 'mailedAt', mailed_at) order by day desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(day) end)
    from page
$$;
revoke all on function worker.report_list from public, anon, authenticated;
grant execute on function worker.report_list to service_role;

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

-- The jobs of a day: what their slots and manual runs became.
--   returns  [{id, slots, succeeded, failed, skipped, missed, caughtUp, abandoned, cancelled, open, p50Ms, p95Ms, maxMs,
--            lateMaxMs, errors: {code: runs}}]; durations null when nothing ended
create or replace function worker.report_read_jobs(p_day date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with runs as (
    select * from worker.job_runs
     where due_at >= p_day::timestamp at time zone 'UTC' and due_at < (p_day + 1)::timestamp at time zone 'UTC'
  ), stats as (
    select job_id, count(*) as slots,
           count(*) filter (where status = 'succeeded') as succeeded,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'skipped') as skipped,
           count(*) filter (where status = 'missed') as missed,
           count(*) filter (where status = 'caught_up') as caught_up,
           count(*) filter (where status = 'abandoned') as abandoned,
           count(*) filter (where status = 'cancelled') as cancelled,
           count(*) filter (where status in ('queued', 'running')) as open,
           round(percentile_cont(0.5) within group (order by duration_ms)) as p50_ms,
           round(percentile_cont(0.95) within group (order by duration_ms)) as p95_ms,
           max(duration_ms) as max_ms, max(late_ms) as late_max_ms
      from runs group by job_id
  ), errors as (
    select job_id, jsonb_object_agg(error_code, runs) as by_code
      from (select job_id, error_code, count(*) as runs from runs where error_code is not null group by 1, 2) as e
     group by job_id)
  select coalesce(jsonb_agg(jsonb_build_object('id', s.job_id, 'slots', slots, 'succeeded', succeeded, 'failed', failed,
      'skipped', skipped, 'missed', missed, 'caughtUp', caught_up, 'abandoned', abandoned, 'cancelled', cancelled,
      'open', open, 'p50Ms', p50_ms, 'p95Ms', p95_ms, 'maxMs', max_ms, 'lateMaxMs', late_max_ms,
      'errors', coalesce(e.by_code, '{}')) order by s.job_id), '[]')
    from stats s left join errors e using (job_id)
$$;
revoke all on function worker.report_read_jobs from public, anon, authenticated;
grant execute on function worker.report_read_jobs to service_role;

-- How the system did on a day, as health_check saw it: once a minute, where it could.
--   returns  {checks, available, components: {name: {available, degraded, unavailable}}, hours: [{hour, checks,
--            available}]}; a minute without a check is in none of them
create or replace function worker.report_read_health(p_day date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with checks as (
    select extract(hour from due_at at time zone 'UTC')::int as hour, report -> 'health' as health
      from worker.job_runs
     where job_id = 'health_check' and jsonb_typeof(report -> 'health') = 'object'
       and due_at >= p_day::timestamp at time zone 'UTC' and due_at < (p_day + 1)::timestamp at time zone 'UTC'
  ), seen as (
    select c.hour, s.key as name, s.value as status
      from checks c, jsonb_each_text(c.health) as s
     where s.value in ('available', 'degraded', 'unavailable')
  ), judged as (
    select hour, not health @? '$.* ? (@ == "unavailable")' as is_available from checks)
  select jsonb_build_object(
    'checks', (select count(*) from judged),
    'available', (select count(*) from judged where is_available),
    'components', coalesce((
      select jsonb_object_agg(name, jsonb_build_object('available', available, 'degraded', degraded,
               'unavailable', unavailable))
        from (select name, count(*) filter (where status = 'available') as available,
                     count(*) filter (where status = 'degraded') as degraded,
                     count(*) filter (where status = 'unavailable') as unavailable
                from seen group by name) as c), '{}'),
    'hours', coalesce((
      select jsonb_agg(jsonb_build_object('hour', hour, 'checks', checks, 'available', available) order by hour)
        from (select hour, count(*) as checks, count(*) filter (where is_available) as available
                from judged group by hour) as h), '[]'))
$$;
revoke all on function worker.report_read_health from public, anon, authenticated;
grant execute on function worker.report_read_health to service_role;

-- What was booked on a day, and what differed.
--   returns  {tokens, events, hours: [{hour, tokens}], reasons: [{reason, tokens, events}], types: [{type, tokens,
--            events}], tenants: [{tenant, tokens}], drifts: [{cause, found, repaired, tokens}], quarantined, gaps}
--            amounts as text; the ten largest tenants; gaps = tokens that are known to be missing now
create or replace function worker.report_read_usage(p_day date) returns jsonb
language sql stable security invoker set search_path = '' as $$
  with booked as materialized (
    select extract(hour from booked_at at time zone 'UTC')::int as hour, tenant, token_type, reason, tokens, events
      from worker.usage_ledger
     where booked_at >= p_day::timestamp at time zone 'UTC' and booked_at < (p_day + 1)::timestamp at time zone 'UTC')
  select jsonb_build_object(
    'tokens', (select coalesce(sum(tokens), 0)::text from booked),
    'events', (select coalesce(sum(events), 0)::text from booked),
    'hours', coalesce((
      select jsonb_agg(jsonb_build_object('hour', hour, 'tokens', tokens::text) order by hour)
        from (select hour, sum(tokens) as tokens from booked group by hour) as h), '[]'),
    'reasons', coalesce((
      select jsonb_agg(jsonb_build_object('reason', reason, 'tokens', tokens::text, 'events', events::text)
               order by reason)
        from (select reason, sum(tokens) as tokens, sum(events) as events from booked group by reason) as r), '[]'),
    'types', coalesce((
      select jsonb_agg(jsonb_build_object('type', type, 'tokens', tokens::text, 'events', events::text) order by type)
        from (select coalesce(token_type, 'unknown') as type, sum(tokens) as tokens, sum(events) as events
                from booked group by 1) as t), '[]'),
    'tenants', coalesce((
      select jsonb_agg(jsonb_build_object('tenant', tenant, 'tokens', tokens::text) order by tokens desc, tenant)
        from (select tenant, sum(tokens) as tokens from booked group by tenant
               order by tokens desc, tenant limit 10) as t), '[]'),
    'drifts', coalesce((
      select jsonb_agg(jsonb_build_object('cause', cause, 'found', found, 'repaired', repaired, 'tokens', tokens::text)
               order by cause)
        from (select cause, count(*) as found, count(*) filter (where state = 'repaired') as repaired,
                     sum(abs(drift)) as tokens
                from worker.usage_drifts
               where detected_at >= p_day::timestamp at time zone 'UTC'
                 and detected_at < (p_day + 1)::timestamp at time zone 'UTC'
               group by cause) as d), '[]'),
    'quarantined', (select count(*) from worker.usage_quarantine where resolved_at is null),
    'gaps', (select coalesce(sum(tokens_lost - recovered), 0)::text from worker.usage_gaps
              where tokens_lost <> recovered))
$$;
revoke all on function worker.report_read_usage from public, anon, authenticated;
grant execute on function worker.report_read_usage to service_role;

-- The work queue on a day.
--   returns  {ended: [{kind, succeeded, dead, cancelled, p50Ms, p95Ms}], codes: [{code, dead}], now: as work_accounting}
--            durations from acceptance to success
create or replace function worker.report_read_work(p_day date) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
begin
  return (
    with ended as materialized (
      select kind, state, code, extract(epoch from finished_at - created_at) * 1000 as ms
        from worker.work_items
       where finished_at >= p_day::timestamp at time zone 'UTC'
         and finished_at < (p_day + 1)::timestamp at time zone 'UTC')
    select jsonb_build_object(
      'ended', coalesce((
        select jsonb_agg(jsonb_build_object('kind', kind, 'succeeded', succeeded, 'dead', dead, 'cancelled', cancelled,
                 'p50Ms', p50_ms, 'p95Ms', p95_ms) order by kind)
          from (select kind, count(*) filter (where state = 'succeeded') as succeeded,
                       count(*) filter (where state = 'dead') as dead,
                       count(*) filter (where state = 'cancelled') as cancelled,
                       round(percentile_cont(0.5) within group (order by ms) filter (where state = 'succeeded')) as p50_ms,
                       round(percentile_cont(0.95) within group (order by ms) filter (where state = 'succeeded')) as p95_ms
                  from ended group by kind) as k), '[]'),
      'codes', coalesce((
        select jsonb_agg(jsonb_build_object('code', code, 'dead', dead) order by dead desc, code)
          from (select code, count(*) as dead from ended where state = 'dead' group by code
                 order by 2 desc, 1 limit 10) as c), '[]'),
      'now', worker.work_accounting()));
end $$;
revoke all on function worker.report_read_work from public, anon, authenticated;
grant execute on function worker.report_read_work to service_role;

-- The incidents of a day.
--   returns  {raised, resolved, open, rows: [{key, level, title, firstSeen, resolvedAt, count}]}; the thirty worst that
--            stood at some time of the day
create or replace function worker.report_read_alerts(p_day date) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with bounds as (
    select p_day::timestamp at time zone 'UTC' as starts, (p_day + 1)::timestamp at time zone 'UTC' as ends
  ), stood as materialized (
    select a.*, b.starts, b.ends from worker.alerts a, bounds b
     where a.first_seen < b.ends and (a.resolved_at is null or a.resolved_at >= b.starts))
  select jsonb_build_object(
    'raised', (select count(*) from stood where first_seen >= starts),
    'resolved', (select count(*) from stood where resolved_at < ends),
    'open', (select count(*) from stood where resolved_at is null or resolved_at >= ends),
    'rows', coalesce((
      select jsonb_agg(jsonb_build_object('key', key, 'level', level, 'title', title, 'firstSeen', first_seen,
               'resolvedAt', resolved_at, 'count', count::text) order by urgency, first_seen)
        from (select *, array_position(array['critical', 'warning', 'info'], level) as urgency from stood
               order by urgency, first_seen limit 30) as worst), '[]'))
$$;
revoke all on function worker.report_read_alerts from public, anon, authenticated;
grant execute on function worker.report_read_alerts to service_role;
