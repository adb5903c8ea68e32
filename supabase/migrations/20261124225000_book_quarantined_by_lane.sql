-- Why: a member of the legacy pending set that was set aside is booked through its own lane: no counter knows it, and
--   its shard is that of its tenant.
-- Lock: none; one function is replaced.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; the parameters are the same.

-- Books an entry that was set aside, as a batch of its own: event, ledger, total and the decision in one transaction.
-- Repeating the call changes nothing; an event that is booked already makes it a duplicate, which resolves it too. It is
-- booked through the lane it came in by.
--   p_day        counts from 1970-01-01
--   p_bill       month it asks to be billed in; null = the month it happened in
--   returns  {status: booked | duplicate, period} | {status: resolved, resolution} | {status: unknown}
create or replace function worker.usage_book_quarantined(p_id bigint, p_uid uuid, p_tenant text, p_period int,
  p_bill int, p_day int, p_tokens bigint, p_type text, p_model text, p_agent text, p_conversation text, p_who text,
  p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  q worker.usage_quarantine;
  v_shard int;
  v_fork int;
  v_closed int[];
  v_batch bigint;
  v_bill int := coalesce(p_bill, p_period);
  v_booked_in int;
  v_is_new boolean;
begin
  select * into q from worker.usage_quarantine where id = p_id;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  -- The shard first, as everywhere: whoever books or closes a month holds it. That of a legacy member may not have been
  -- known when it was set aside.
  v_shard := case q.lane when 'log' then q.shard else worker.usage_shard_of(p_tenant) end;
  insert into worker.usage_shards (shard) values (v_shard) on conflict on constraint usage_shards_pkey do nothing;
  select forks into v_fork from worker.usage_shards where shard = v_shard for update;
  select * into q from worker.usage_quarantine where id = p_id for update;
  if q.resolved_at is not null then
    return jsonb_build_object('status', 'resolved', 'resolution', q.resolution);
  end if;
  select coalesce(array_agg(period), '{}') into v_closed from worker.usage_periods where state = 'closed';
  v_booked_in := worker.usage_next_open_period(v_bill, v_closed);

  -- A negative position: the batches of the log stay contiguous, and each decision has a batch of its own.
  insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens, worker, lane)
  values (v_shard, v_fork, 'quarantine', -p_id, -p_id, 1, 0, 0, 0, 0, 0, p_who, q.lane)
  returning batch_id into v_batch;
  insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, agent_id, conversation_id)
  values (date '1970-01-01' + p_day, p_period, p_tokens, v_batch, p_uid, p_tenant, p_type, p_model,
          nullif(p_agent, ''), nullif(p_conversation, ''))
  on conflict on constraint usage_events_pkey do nothing;
  v_is_new := found;
  if v_is_new then
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason, note, lane)
    values (v_batch, p_tenant, v_booked_in, p_period, p_type, p_model, p_tokens, 1,
            case when v_booked_in <> v_bill then 'late' when v_bill <> p_period then 'future' else 'usage' end,
            jsonb_build_object('quarantine', p_id::text, 'who', p_who, 'why', p_reason), q.lane);
    insert into worker.usage_totals as t (tenant, period, tokens, events, late, future, legacy, shard)
    values (p_tenant, v_booked_in, p_tokens, 1, case when v_booked_in <> v_bill then p_tokens else 0 end,
            case when v_booked_in = v_bill and v_bill <> p_period then p_tokens else 0 end,
            case q.lane when 'log' then 0 else p_tokens end, v_shard)
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, events = t.events + 1, late = t.late + excluded.late,
          future = t.future + excluded.future, legacy = t.legacy + excluded.legacy, updated_at = now();
    if q.lane <> 'log' then
      insert into worker.usage_legacy_tenants as t (tenant, shard, pending) values (p_tenant, v_shard, p_tokens)
      on conflict on constraint usage_legacy_tenants_pkey do update set pending = t.pending + excluded.pending;
    end if;
  end if;
  update worker.usage_batches
     set applied = v_is_new::int, dup = (not v_is_new)::int, tokens = case when v_is_new then p_tokens else 0 end
   where batch_id = v_batch;
  update worker.usage_quarantine
     set resolved_at = now(), resolution = case when v_is_new then 'booked' else 'duplicate' end, resolved_by = p_who,
         resolved_reason = p_reason
   where id = p_id;
  return jsonb_build_object('status', case when v_is_new then 'booked' else 'duplicate' end, 'period', v_booked_in);
end $$;
revoke all on function worker.usage_book_quarantined from public, anon, authenticated;
grant execute on function worker.usage_book_quarantined to service_role;
