-- The receipt of a replay.
--   returns  {replayId, actor, reason, filter, perSecond, moved, skipped, createdAt, items: [{id, outcome, dueAt, state}]};
--            state = where the item is now; null = no such receipt
create or replace function worker.work_read_replay(p_id uuid) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('replayId', r.id, 'actor', r.actor, 'reason', r.reason, 'filter', r.filter,
      'perSecond', r.per_second, 'moved', r.moved, 'skipped', r.skipped, 'createdAt', r.created_at,
      'items', coalesce((
        select jsonb_agg(jsonb_build_object('id', ri.item_id, 'outcome', ri.outcome, 'dueAt', ri.due_at, 'state', i.state)
                 order by ri.due_at, ri.item_id)
          from worker.work_replay_items ri left join worker.work_items i on i.id = ri.item_id
         where ri.replay_id = r.id), '[]'))
    from worker.work_replays r where r.id = p_id
$$;
revoke all on function worker.work_read_replay from public, anon, authenticated;
grant execute on function worker.work_read_replay to service_role;
