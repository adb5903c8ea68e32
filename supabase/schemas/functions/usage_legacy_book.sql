-- Books uses that came through a legacy lane, with the same events, ledger and totals as the log, in one transaction.
-- Locks the shards of its tenants in order, as everything that books does: no deadlocks, and a tenant waits for its own
-- shard only. Repeating a call books nothing.
--   p_lane           legacy_pending | legacy_direct | legacy_counter
--   p_uid .. p_note  one array per column, all of one length; at most 5000 uses. p_day counts from 1970-01-01
--   p_bill           month a use asks to be billed in where that is another one than p_period; null = nowhere
--   p_note           evidence for the ledger row; null = none
--   returns  {applied, dup, tokens}; tokens as text
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_book(p_lane text, p_uid uuid[], p_tenant text[], p_shard int[],
  p_period int[], p_day int[], p_tokens numeric[], p_type text[], p_model text[], p_bill int[] default null,
  p_agent text[] default null, p_conversation text[] default null, p_note jsonb[] default null) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off
set enable_nestloop = off set statement_timeout = '20s' as $$ -- the planner does not know how long the arrays are
declare
  v_seen int := coalesce(cardinality(p_uid), 0);
  -- Not a visit of a lineage. The batches of a lane are one row for each shard and day of booking.
  v_fork int := case p_lane when 'legacy_pending' then -1 when 'legacy_direct' then -2 when 'legacy_counter' then -3 end;
  v_today int := (now() at time zone 'UTC')::date - date '1970-01-01';
  v_closed int[];
  v_shards int[];
  v_batches bigint[];
  v_applied bigint;
  v_tokens numeric;
begin
  if v_fork is null or v_seen > 5000
     or array[coalesce(cardinality(p_tenant), 0), coalesce(cardinality(p_shard), 0), coalesce(cardinality(p_period), 0),
          coalesce(cardinality(p_day), 0), coalesce(cardinality(p_tokens), 0), coalesce(cardinality(p_type), 0),
          coalesce(cardinality(p_model), 0), coalesce(cardinality(p_bill), v_seen),
          coalesce(cardinality(p_agent), v_seen), coalesce(cardinality(p_conversation), v_seen),
          coalesce(cardinality(p_note), v_seen)] <> array_fill(v_seen, array[11]) then
    raise exception 'usage_argument_invalid: a legacy lane and columns of one length and at most 5000 uses'
      using errcode = 'UL001';
  end if;
  if v_seen = 0 then
    return jsonb_build_object('applied', 0, 'dup', 0, 'tokens', '0');
  end if;
  perform worker.usage_legacy_lock_shards(p_shard);
  insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens, lane)
  select distinct shard, v_fork, p_lane, v_today, v_today, 0, 0, 0, 0, 0, 0, p_lane from unnest(p_shard) as e (shard)
  on conflict on constraint usage_batches_position_key do nothing;
  select array_agg(shard), array_agg(batch_id) into v_shards, v_batches
    from worker.usage_batches
   where fork = v_fork and from_n = v_today and shard = any (p_shard);
  -- Read after the shards are locked: whoever closes a month locks them too.
  select coalesce(array_agg(period), '{}') into v_closed from worker.usage_periods where state = 'closed';

  with entry as (
    select *
      from unnest(p_uid, p_tenant, p_shard, p_period, p_day, p_tokens, p_type, p_model, p_agent, p_conversation)
        as e (uid, tenant, shard, period, day, tokens, type, model, agent, conversation)),
  batch as (
    select * from unnest(v_shards, v_batches) as b (shard, batch_id)),
  fresh as (
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, agent_id,
      conversation_id)
    select date '1970-01-01' + day, period, tokens::bigint, batch_id, uid, tenant, type, model, nullif(agent, ''),
           nullif(conversation, '')
      from entry join batch using (shard)
    on conflict on constraint usage_events_pkey do nothing
    returning day, uid, batch_id, tenant, period, token_type as type, model, tokens),
  beside as ( -- one row per event, also when it was sent twice
    select distinct on (day, uid) date '1970-01-01' + day as day, uid, nullif(bill, period) as bill, note
      from unnest(p_uid, p_day, p_period, p_bill, p_note) with ordinality as e (uid, day, period, bill, note, i)
     where p_bill is not null or p_note is not null
     order by day, uid, i),
  sums as (
    select batch_id, tenant, period, bill, type, model, sum(tokens) as tokens, count(*) as events,
           jsonb_agg(note) filter (where note is not null) as note
      from fresh left join beside using (day, uid)
     group by batch_id, tenant, period, bill, type, model),
  booked as (
    select shard, batch_id, tenant, period as usage_period, type, model, tokens, events, note,
           case when wanted = any (v_closed) then worker.usage_next_open_period(wanted, v_closed) else wanted end
             as period,
           case when wanted = any (v_closed) then 'late' when bill is not null then 'future' else 'usage' end as reason
      from (select *, coalesce(bill, period) as wanted from sums) s join batch using (batch_id)),
  ledger as (
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason,
      note, lane)
    select batch_id, tenant, period, usage_period, type, model, tokens, events, reason, note, p_lane from booked),
  totals as (
    insert into worker.usage_totals as t (tenant, period, tokens, events, late, future, legacy, shard)
    select tenant, period, sum(tokens), sum(events), coalesce(sum(tokens) filter (where reason = 'late'), 0),
           coalesce(sum(tokens) filter (where reason = 'future'), 0), sum(tokens), shard
      from booked
     group by tenant, period, shard
     order by tenant, period
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, events = t.events + excluded.events, late = t.late + excluded.late,
          future = t.future + excluded.future, legacy = t.legacy + excluded.legacy, updated_at = now()),
  tenants as (
    insert into worker.usage_legacy_tenants as t (tenant, shard, direct, pending, counter)
    select tenant, shard, case p_lane when 'legacy_direct' then sum(tokens) else 0 end,
           case p_lane when 'legacy_pending' then sum(tokens) else 0 end,
           case p_lane when 'legacy_counter' then sum(tokens) else 0 end
      from booked
     group by tenant, shard
     order by tenant
    on conflict on constraint usage_legacy_tenants_pkey do update
      set direct = t.direct + excluded.direct, pending = t.pending + excluded.pending,
          counter = t.counter + excluded.counter),
  counts as (
    select shard, batch_id, seen, coalesce(events, 0) as events, coalesce(tokens, 0) as tokens
      from (select shard, count(*) as seen from entry group by shard) e
      join batch using (shard)
      left join (select shard, sum(events) as events, sum(tokens) as tokens from booked group by shard) a using (shard)),
  counted as (
    update worker.usage_batches b
       set seen = b.seen + c.seen, applied = b.applied + c.events, dup = b.dup + c.seen - c.events,
           tokens = b.tokens + c.tokens
      from counts c
     where b.batch_id = c.batch_id and b.batch_id = any (v_batches))
  select coalesce(sum(events), 0), coalesce(sum(tokens), 0) into v_applied, v_tokens from booked;
  return jsonb_build_object('applied', v_applied, 'dup', v_seen - v_applied, 'tokens', v_tokens::text);
end $$;
revoke all on function worker.usage_legacy_book from public, anon, authenticated;
grant execute on function worker.usage_legacy_book to service_role;
