-- Moves dead letters back to work, with a receipt. Of two operators who move the same ones each moves what the other left.
--   p_ids         at most 1000; null = those of the filter, the oldest first
--   p_filter      {kind?, tenant?, code?, until?}; goes with p_limit, 1 .. 1000
--   p_per_second  that many start in a second, 1 .. 1000
--   p_dry_run     only says what would happen
--   p_known       kinds that somebody works on; the others stay dead, and so do messages that were never items
--   returns  {replayId (null on a dry run), moved, skipped, items: [{id, kind, outcome, dueAt}], isMore}
--            outcome = moved | not_dead | duplicate (its dedupe key is live again) | not_replayable | unknown
--   raises   WK001 work_argument_invalid
create or replace function worker.work_replay(p_ids uuid[], p_filter jsonb, p_limit int, p_per_second int,
  p_dry_run boolean, p_known text[], p_actor text, p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_ids uuid[] := p_ids;
  v_now timestamptz;
  v_replay uuid;
  v_items jsonb := '[]';
  v_moved int := 0;
  v_due timestamptz;
  v_outcome text;
  i worker.work_items;
  v_id uuid;
  t record;
begin
  if cardinality(p_ids) > 1000 or p_per_second is null or p_per_second not between 1 and 1000 or p_limit not between 1 and 1000 then
    raise exception 'work_argument_invalid: at most 1000 items, 1 to 1000 a second' using errcode = 'WK001';
  end if;
  if v_ids is null then
    select array_agg(id order by seq) into v_ids from (
      select id, seq from worker.work_items
       where state = 'dead' and kind = any (p_known) and not coalesce(evidence, '{}') ? 'message'
         and (p_filter ->> 'kind' is null or kind = p_filter ->> 'kind')
         and (p_filter ->> 'tenant' is null or tenant = p_filter ->> 'tenant')
         and (p_filter ->> 'code' is null or code = p_filter ->> 'code')
         and (p_filter ->> 'until' is null or finished_at < (p_filter ->> 'until')::timestamptz)
       order by seq limit p_limit) chosen;
  end if;
  -- In one order for everybody, so that two of these wait for each other and not in a circle.
  for t in select distinct kind, tenant from worker.work_items where id = any (v_ids) order by 1, 2 loop
    perform worker.work_lock(t.kind, t.tenant);
  end loop;
  v_now := clock_timestamp();

  for v_id in select distinct id from unnest(v_ids) as id order by id loop
    select * into i from worker.work_items where id = v_id for update;
    v_due := null;
    v_outcome := case when not found then 'unknown' when i.state <> 'dead' then 'not_dead'
                      when i.kind <> all (p_known) or coalesce(i.evidence, '{}') ? 'message' then 'not_replayable' else 'moved' end;
    if v_outcome = 'moved' and i.dedupe_key is not null and exists (
      select from worker.work_items where kind = i.kind and tenant = i.tenant and dedupe_key = i.dedupe_key
         and state in ('queued', 'running', 'retrying')) then
      v_outcome := 'duplicate';
    end if;
    if v_outcome = 'moved' then
      v_due := v_now + interval '1 second' * (v_moved / p_per_second);
      v_moved := v_moved + 1;
      if not p_dry_run then
        update worker.work_items
           set state = 'queued', due_at = v_due, failures = 0, crashes = 0, attempts = 0, replays = replays + 1,
               finished_at = null, settle_at = null, sent_at = null, resend_at = null, cancel_requested_at = null,
               updated_at = v_now
         where id = v_id;
      end if;
    end if;
    v_items := v_items || jsonb_build_object('id', v_id, 'kind', i.kind, 'outcome', v_outcome, 'dueAt', v_due);
  end loop;

  if not p_dry_run then
    insert into worker.work_replays (actor, reason, filter, per_second, moved, skipped)
    values (p_actor, p_reason, case when p_ids is null then coalesce(p_filter, '{}') else '{"ids": true}' end,
            p_per_second, v_moved, jsonb_array_length(v_items) - v_moved)
    returning id into v_replay;
    insert into worker.work_replay_items (replay_id, item_id, outcome, due_at)
    select v_replay, (value ->> 'id')::uuid, value ->> 'outcome', (value ->> 'dueAt')::timestamptz
      from jsonb_array_elements(v_items);
    for t in select value ->> 'kind' as kind, count(*) as n from jsonb_array_elements(v_items)
              where value ->> 'outcome' = 'moved' group by 1 order by 1 loop
      perform worker.work_count(t.kind, 'revived', t.n);
    end loop;
    perform worker.audit_write(p_actor, 'work_replay', 'work_replay:' || v_replay, p_reason,
      jsonb_build_object('moved', v_moved, 'skipped', jsonb_array_length(v_items) - v_moved));
  end if;
  return jsonb_build_object('replayId', v_replay, 'moved', v_moved, 'skipped', jsonb_array_length(v_items) - v_moved,
    'items', v_items, 'isMore', p_ids is null and coalesce(cardinality(v_ids), 0) = p_limit);
end $$;
revoke all on function worker.work_replay from public, anon, authenticated;
grant execute on function worker.work_replay to service_role;
