-- Applies one batch of one shard: events, ledger, totals, findings and the cursor move in one transaction. Repeating a
-- call that was applied answers stale; stale and fenced change nothing and are not errors.
--   p_fence          fence of the lease, or null without a lease
--   p_inc, p_prev_n  where the caller believes the cursor is (compare-and-swap)
--   p_to_n, p_cum, p_count, p_anchor  number, running sum, running count and anchor of the last entry
--   p_uid .. p_dim   one array per column, all of one length; at most 20,000 records. p_day counts from 1970-01-01,
--                    p_dim indexes p_dims from 0
--   p_dims           [[token type, model]]
--   p_bill           month a use asks to be billed in, where that is another one than p_period; null = nowhere
--   p_agent, p_conversation  null when no record has one
--   p_bad            [{n, raw, error, tokens, tenant, period}]; tokens only when the entry continues the running sum
--   p_markers        [{oi, ln, lc, cn, cc}]        p_replay  [{uid, day, oi}]
--   p_retain_hours   how long Redis keeps applied entries
--   returns  {status: applied, batch, applied, dup, conflicting, bad, tokens, n, trim}
--          | {status: stale | fenced, inc, n}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_apply_batch(p_shard int, p_fence bigint, p_inc text, p_prev_n bigint,
  p_to_n bigint, p_cum numeric, p_count bigint, p_anchor text, p_uid uuid[], p_tenant text[], p_period int[],
  p_day int[], p_tokens bigint[], p_dim int[], p_dims jsonb default '[]', p_bill int[] default null,
  p_agent text[] default null, p_conversation text[] default null, p_bad jsonb default '[]',
  p_markers jsonb default '[]', p_replay jsonb default '[]', p_worker text default null, p_run uuid default null,
  p_retain_hours int default 48) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
declare
  s worker.usage_shards;
  v_seen int := coalesce(cardinality(p_uid), 0);
  v_bad int := jsonb_array_length(p_bad);
  v_types text[];
  v_models text[];
  v_closed int[];
  v_batch bigint;
  v_applied int;
  v_conflicting int := 0;
  v_tokens numeric;
  v_fresh int;
  v_tenant text[] := p_tenant;             -- of the events that were not booked before
  v_period int[] := p_period;
  v_amount bigint[] := p_tokens;
  v_dim int[] := p_dim;
  v_bill int[] := p_bill;
begin
  if p_to_n <= p_prev_n
     or greatest(v_seen, v_bad, jsonb_array_length(p_markers), jsonb_array_length(p_replay)) > 20000
     or array[cardinality(p_tenant), cardinality(p_period), cardinality(p_day), cardinality(p_tokens),
          cardinality(p_dim), coalesce(cardinality(p_bill), v_seen), coalesce(cardinality(p_agent), v_seen),
          coalesce(cardinality(p_conversation), v_seen)] <> array_fill(v_seen, array[8]) then
    raise exception 'usage_argument_invalid: columns of one length and at most 20000 entries that end after p_prev_n'
      using errcode = 'UL001';
  end if;

  select * into s from worker.usage_shards where shard = p_shard for update; -- one batch of a shard at a time
  if p_fence < s.fence then
    return jsonb_build_object('status', 'fenced', 'inc', s.inc, 'n', s.n::text);
  end if;
  if not found or s.inc <> p_inc or s.n <> p_prev_n then
    return jsonb_build_object('status', 'stale', 'inc', coalesce(s.inc, ''), 'n', coalesce(s.n, 0)::text);
  end if;

  insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens,
    fence, worker, run_id)
  values (p_shard, s.forks, p_inc, p_prev_n + 1, p_to_n, v_seen, 0, 0, 0, v_bad, 0, p_fence, p_worker, p_run)
  returning batch_id into v_batch;
  -- Read after the shard is locked: whoever closes a month locks the shards too.
  select coalesce(array_agg(period), '{}') into v_closed from worker.usage_periods where state = 'closed';
  select array_agg(d ->> 0 order by i), array_agg(d ->> 1 order by i) into v_types, v_models
    from jsonb_array_elements(p_dims) with ordinality as dims (d, i);

  -- Hardly ever is one of them booked already, and an insert that may conflict costs a third more for all of them.
  -- Whoever books the same event at the same moment makes this wait and then fail, as a conflict would.
  begin
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, agent_id,
      conversation_id)
    select date '1970-01-01' + day, period, tokens, v_batch, uid, tenant, v_types[dim + 1], v_models[dim + 1],
           nullif(agent, ''), nullif(conversation, '')
      from unnest(p_uid, p_tenant, p_period, p_day, p_tokens, p_dim, p_agent, p_conversation)
        as e (uid, tenant, period, day, tokens, dim, agent, conversation);
    v_fresh := v_seen;
  exception when unique_violation then
    v_fresh := null;
  end;
  if v_fresh is null then
    with entry as (
      select *
        from unnest(p_uid, p_tenant, p_period, p_day, p_tokens, p_dim, p_agent, p_conversation, p_bill)
          with ordinality as e (uid, tenant, period, day, tokens, dim, agent, conversation, bill, i)),
    inserted as (
      insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, agent_id,
        conversation_id)
      select date '1970-01-01' + day, period, tokens, v_batch, uid, tenant, v_types[dim + 1], v_models[dim + 1],
             nullif(agent, ''), nullif(conversation, '')
        from entry
       order by i
      on conflict on constraint usage_events_pkey do nothing
      returning day - date '1970-01-01' as day, uid),
    fresh as ( -- one per event, also when it was sent twice
      select distinct on (day, uid) e.* from entry e join inserted using (day, uid) order by day, uid, i)
    select count(*), coalesce(array_agg(tenant order by i), '{}'), array_agg(period order by i),
           array_agg(tokens order by i), array_agg(dim order by i), array_agg(bill order by i)
      into v_fresh, v_tenant, v_period, v_amount, v_dim, v_bill
      from fresh;
    v_conflicting := worker.usage_quarantine_conflicts(p_shard, p_inc, p_uid, p_tenant, p_period, p_day, p_tokens);
  end if;

  with sums as (
    select tenant, period, bill, dim, sum(tokens) as tokens, count(*) as events
      from unnest(v_tenant, v_period, v_bill, v_dim, v_amount) as e (tenant, period, bill, dim, tokens)
     group by tenant, period, bill, dim),
  booked as (
    select tenant, period as usage_period, dim, tokens, events,
           case when wanted = any (v_closed) then worker.usage_next_open_period(wanted, v_closed) else wanted end
             as period,
           case when wanted = any (v_closed) then 'late' when bill <> period then 'future' else 'usage' end as reason
      from (select *, coalesce(bill, period) as wanted from sums) s),
  ledger as (
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason)
    select v_batch, tenant, period, usage_period, v_types[dim + 1], v_models[dim + 1], tokens, events, reason
      from booked),
  totals as (
    insert into worker.usage_totals as t (tenant, period, tokens, events, late, future, shard)
    select tenant, period, sum(tokens), sum(events), coalesce(sum(tokens) filter (where reason = 'late'), 0),
           coalesce(sum(tokens) filter (where reason = 'future'), 0), p_shard
      from booked
     group by tenant, period
     order by tenant, period
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, events = t.events + excluded.events, late = t.late + excluded.late,
          future = t.future + excluded.future, updated_at = now())
  select coalesce(sum(events), 0), coalesce(sum(tokens), 0) into v_applied, v_tokens from booked;

  insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error)
  select p_shard, p_inc, n, tenant, period, tokens, raw, error
    from jsonb_to_recordset(p_bad)
      as b (n bigint, tenant text, period int, tokens numeric, raw text, error text)
  on conflict (shard, n, md5(raw)) do nothing;

  -- Sum and count must have grown by exactly what this batch carries. An empty difference of amounts with a missing
  -- entry is a loss too. After a fork the same hole is read again: behind the same entry, and as large.
  insert into worker.usage_gaps (shard, inc, from_n, to_n, tokens_lost, entries_lost, cause, after_anchor)
  select p_shard, p_inc, p_prev_n + 1, p_to_n, coalesce(missing.tokens, 0), missing.entries, 'missing_entries', s.anchor
    from (select p_cum - s.cum - coalesce(sum(carried.tokens), 0) as tokens,
                 p_count - s.count - count(carried.tokens) as entries
            from (select unnest(p_tokens)::numeric
                  union all
                  select (b ->> 'tokens')::numeric from jsonb_array_elements(p_bad) b) carried (tokens)) missing
   where (missing.tokens <> 0 or missing.entries <> 0)
     and not exists (
       select from worker.usage_gaps g
        where g.shard = p_shard and g.cause = 'missing_entries' and g.after_anchor = s.anchor
          and g.tokens_lost = coalesce(missing.tokens, 0) and g.entries_lost is not distinct from missing.entries);
  if jsonb_array_length(p_markers) > 0 then
    perform worker.usage_open_rewind_gaps(p_shard, p_markers);
  end if;
  if jsonb_array_length(p_replay) > 0 then
    perform worker.usage_recover_gaps(p_shard, v_batch, p_replay);
  end if;

  update worker.usage_shards
     set n = p_to_n, cum = p_cum, count = p_count, anchor = p_anchor, updated_at = now()
   where shard = p_shard
  returning * into s;
  update worker.usage_batches
     set applied = v_applied, dup = v_seen - v_applied, conflicting = v_conflicting, tokens = v_tokens
   where batch_id = v_batch;
  return jsonb_build_object('status', 'applied', 'batch', v_batch::text, 'applied', v_applied,
    'dup', v_seen - v_applied, 'conflicting', v_conflicting, 'bad', v_bad, 'tokens', v_tokens::text,
    'n', p_to_n::text, 'trim', worker.usage_trim_point(s, p_retain_hours)::text);
end $$;
revoke all on function worker.usage_apply_batch from public, anon, authenticated;
grant execute on function worker.usage_apply_batch to service_role;
