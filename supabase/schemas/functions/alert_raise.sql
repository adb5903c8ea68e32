-- Reports that something is wrong. Reports of one key are one incident until it is resolved. A notice is due when the
-- incident is new, its level rises, its value doubled since the last notice, or 24 h passed since then. An incident that
-- somebody acknowledged keeps quiet about the last, and is firing again after the others.
--   p_key       <kind>[:<subject>], at most 400 characters
--   p_level     info | warning | critical
--   p_value     how bad it is; null = cannot be measured
--   p_evidence  object; replaces what was known
--   p_now       the caller's clock
--   returns  {id, state, count, notice, level}; notice = new | level | doubled | reminder, null = none is due
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.alert_raise(p_key text, p_level text, p_title text, p_runbook text, p_value numeric,
  p_threshold numeric, p_evidence jsonb, p_now timestamptz) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_levels constant text[] := array['info', 'warning', 'critical'];
  a worker.alerts;
  v_notice text;
begin
  if array_position(v_levels, p_level) is null or p_now is null or coalesce(length(p_key), 0) not between 1 and 400
     or length(p_evidence::text) > 65536 then
    raise exception 'usage_argument_invalid: a known level, a key of at most 400 characters, evidence of at most 64 KiB'
      using errcode = 'UL001';
  end if;
  for attempt in 1 .. 5 loop
    insert into worker.alerts (key, kind, level, title, runbook, value, threshold, evidence, first_seen, last_seen,
      noticed_at, noticed_level, noticed_value)
    values (p_key, split_part(p_key, ':', 1), p_level, p_title, p_runbook, p_value, p_threshold,
            coalesce(p_evidence, '{}'), p_now, p_now, p_now, p_level, p_value)
    on conflict (key) where resolved_at is null do nothing
    returning * into a;
    if found then
      v_notice := 'new';
      -- The table stays small by itself: what was over more than 400 days ago makes room.
      delete from worker.alerts where id in (
        select id from worker.alerts where resolved_at < p_now - interval '400 days' order by resolved_at limit 100);
      exit;
    end if;
    select * into a from worker.alerts where key = p_key and resolved_at is null for update;
    exit when found; -- otherwise it was resolved in between
  end loop;
  if a.id is null then
    raise exception 'alert_busy' using errcode = '40001';
  end if;

  if v_notice is null then
    v_notice := case
      when array_position(v_levels, p_level) > array_position(v_levels, a.noticed_level) then 'level'
      when abs(p_value) >= 2 * abs(a.noticed_value) and a.noticed_value <> 0 then 'doubled'
      when a.state = 'firing' and p_now >= a.noticed_at + interval '24 hours' then 'reminder' end;
    update worker.alerts
       set level = p_level, title = p_title, runbook = p_runbook, value = p_value, threshold = p_threshold,
           evidence = coalesce(p_evidence, '{}'), count = count + 1, last_seen = greatest(last_seen, p_now),
           state = case when v_notice in ('level', 'doubled') then 'firing' else state end,
           noticed_at = case when v_notice is null then noticed_at else p_now end,
           noticed_level = case when v_notice is null then noticed_level else p_level end,
           noticed_value = case when v_notice is null then noticed_value else p_value end
     where id = a.id
    returning * into a;
  end if;
  if v_notice is not null then
    insert into worker.alert_notices (alert_id, reason, level, value, noticed_at)
    values (a.id, v_notice, p_level, p_value, p_now);
  end if;
  return jsonb_build_object('id', a.id::text, 'state', a.state, 'count', a.count::text, 'notice', v_notice,
    'level', a.level);
end $$;
revoke all on function worker.alert_raise from public, anon, authenticated;
grant execute on function worker.alert_raise to service_role;
