-- A person decides about a difference that is held. The decision is written down with who, when and why; the next
-- comparison of the shard acts on it, once. Repeating a decision changes nothing; another one replaces it until it was
-- acted on.
--   p_decision  approved | rejected
--   p_repair    counter = the ledger is right, ledger = the counter is right, total = the total becomes the sum of the
--               ledger; null = as proposed
--   returns  {status: approved | rejected, drift: see usage_drift_row}
--          | {status: not_held, state} | {status: repairing} | {status: repair_refused, repair} | {status: unknown}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_decide_drift(p_id bigint, p_decision text, p_repair text, p_who text,
  p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.usage_drifts;
  v_repair text;
begin
  if p_decision not in ('approved', 'rejected') or coalesce(p_who, '') = '' or coalesce(p_reason, '') = '' then
    raise exception 'usage_argument_invalid: a decision is approved or rejected, by somebody, for a reason'
      using errcode = 'UL001';
  end if;
  select * into d from worker.usage_drifts where id = p_id;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  -- The shard first, as everywhere: a comparison that acts on the difference holds it.
  perform from worker.usage_shards where shard = d.shard for update;
  select * into d from worker.usage_drifts where id = p_id for update;
  v_repair := coalesce(p_repair, d.repair);
  if d.state not in ('hold_for_approval', 'approved', 'rejected') then
    return jsonb_build_object('status', 'not_held', 'state', d.state);
  end if;
  if d.repair_id is not null then
    return jsonb_build_object('status', 'repairing');
  end if;
  if (v_repair = 'total') <> (d.cause = 'total_edited')
     or (v_repair = 'ledger' and d.cause in ('redis_key_missing', 'redis_unreadable')) then
    return jsonb_build_object('status', 'repair_refused', 'repair', v_repair);
  end if;
  if d.state <> p_decision or d.repair <> v_repair then
    update worker.usage_drifts
       set state = p_decision, repair = v_repair,
           decisions = decisions || jsonb_build_object('decision', p_decision, 'repair', v_repair, 'who', p_who,
             'why', p_reason, 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
     where id = p_id
    returning * into d;
  end if;
  return jsonb_build_object('status', p_decision, 'drift', worker.usage_drift_row(d));
end $$;
revoke all on function worker.usage_decide_drift from public, anon, authenticated;
grant execute on function worker.usage_decide_drift to service_role;
