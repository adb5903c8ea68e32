-- Incidents, newest first.
--   p_state   open (firing or acknowledged) | firing | acknowledged | resolved | all
--   p_level, p_kind  only those; null = all
--   p_before  id of the last row of the page before; null = from the newest
--   p_limit   1 .. 200
--   returns   {rows: [{id, key, kind, level, state, title, runbook, value, threshold, evidence, count, firstSeen, lastSeen,
--             noticedAt, acknowledgedAt, acknowledgedBy, acknowledgedReason, resolvedAt}], next}; ids and amounts as
--             text, next = p_before of the following page or null
create or replace function worker.alert_read(p_state text, p_level text default null, p_kind text default null,
  p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.alerts
     where case p_state when 'all' then true when 'open' then resolved_at is null else state = p_state end
       and (p_level is null or level = p_level) and (p_kind is null or kind = p_kind)
       and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'key', key, 'kind', kind, 'level', level,
        'state', state, 'title', title, 'runbook', runbook, 'value', value::text, 'threshold', threshold::text,
        'evidence', evidence, 'count', count::text, 'firstSeen', first_seen, 'lastSeen', last_seen,
        'noticedAt', noticed_at, 'acknowledgedAt', acknowledged_at, 'acknowledgedBy', acknowledged_by,
        'acknowledgedReason', acknowledged_reason, 'resolvedAt', resolved_at) order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.alert_read from public, anon, authenticated;
grant execute on function worker.alert_read to service_role;
