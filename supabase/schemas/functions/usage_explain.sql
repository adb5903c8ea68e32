-- Everything the ledger knows about a tenant and month, with ids, at one instant: what was booked and by which batches,
-- what was corrected, set aside, known to be lost. The caller adds what Redis says after the cursor that is part of
-- the same instant.
--   p_shard   shard of the tenant; its gaps and cursor are part of the answer
--   p_items   rows of each list at the most, newest first; the sums always cover all
--   returns  {tenant, period, cursor: {inc, n, cum, count, anchor}, total: {tokens, events},
--            ledger: {billed, used, logUsed, late, future, adjusted, legacy, rows},
--            lanes: [{lane, tokens, events}], batches: [{id, lane, fromN, toN, tokens, events, bookedAt}],
--            moved: [{id, period, usagePeriod, tokens, reason}], adjustments: [{id, tokens, reason, note, bookedAt}],
--            quarantined: {tokens, entries, rows: [{id, n, error, tokens, detectedAt}]},
--            gaps: [{id, cause, fromN, toN, lost, recovered, entriesLost, detectedAt}]}; amounts and ids as text
create or replace function worker.usage_explain(p_tenant text, p_period int, p_shard int, p_items int default 50)
returns jsonb language sql stable security invoker set search_path = '' set timezone = 'UTC' set jit = off as $$
  with mine as materialized (
    select * from worker.usage_ledger where tenant = p_tenant and period = p_period
    union all
    select * from worker.usage_ledger where tenant = p_tenant and usage_period = p_period and period <> p_period),
  sums as (
    select coalesce(sum(tokens) filter (where period = p_period), 0) as billed,
           coalesce(sum(tokens) filter (where usage_period = p_period), 0) as used,
           coalesce(sum(tokens) filter (where usage_period = p_period and lane in ('log', 'adjust')), 0) as log_used,
           coalesce(sum(tokens) filter (where period = p_period and reason = 'late'), 0) as late,
           coalesce(sum(tokens) filter (where period = p_period and reason = 'future'), 0) as future,
           coalesce(sum(tokens) filter (where period = p_period and reason like 'adjust:%'), 0) as adjusted,
           coalesce(sum(tokens) filter (where period = p_period and lane like 'legacy%'), 0) as legacy,
           count(*) as rows
      from mine)
  select jsonb_build_object(
    'tenant', p_tenant, 'period', p_period,
    'cursor', (select jsonb_build_object('inc', inc, 'n', n::text, 'cum', cum::text, 'count', count::text,
                 'anchor', anchor) from worker.usage_shards where shard = p_shard),
    'total', (select jsonb_build_object('tokens', coalesce(sum(tokens), 0)::text, 'events', coalesce(sum(events), 0)::text)
                from worker.usage_totals where tenant = p_tenant and period = p_period),
    'ledger', (select jsonb_build_object('billed', billed::text, 'used', used::text, 'logUsed', log_used::text,
                 'late', late::text, 'future', future::text, 'adjusted', adjusted::text, 'legacy', legacy::text,
                 'rows', rows) from sums),
    'lanes', (select coalesce(jsonb_agg(jsonb_build_object('lane', lane, 'tokens', tokens::text, 'events', events::text)
                order by lane), '[]')
                from (select lane, sum(tokens) as tokens, sum(events) as events from mine
                       where period = p_period group by lane) l),
    'batches', (select coalesce(jsonb_agg(jsonb_build_object('id', b.batch_id::text, 'lane', b.lane, 'fromN',
                  b.from_n::text, 'toN', b.to_n::text, 'tokens', m.tokens::text, 'events', m.events::text, 'bookedAt',
                  b.applied_at) order by b.batch_id desc), '[]')
                  from (select batch_id, sum(tokens) as tokens, sum(events) as events from mine
                         where batch_id is not null and period = p_period
                         group by batch_id order by batch_id desc limit p_items) m
                  join worker.usage_batches b using (batch_id)),
    'moved', (select coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'period', period, 'usagePeriod', usage_period,
                'tokens', tokens::text, 'reason', reason) order by id desc), '[]')
                from (select * from mine where period <> usage_period order by id desc limit p_items) m),
    'adjustments', (select coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'tokens', tokens::text, 'reason', reason,
                      'note', note, 'bookedAt', booked_at) order by id desc), '[]')
                      from (select * from mine where reason like 'adjust:%' order by id desc limit p_items) m),
    'quarantined', (select jsonb_build_object('tokens', coalesce(sum(tokens), 0)::text, 'entries', count(*), 'rows',
                      coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'n', n::text, 'error', error, 'tokens',
                        tokens::text, 'detectedAt', detected_at) order by id desc) filter (where place <= p_items), '[]'))
                      from (select *, row_number() over (order by id desc) as place from worker.usage_quarantine
                             where tenant = p_tenant and period = p_period and resolved_at is null) q),
    'gaps', (select coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'cause', cause, 'fromN', from_n::text, 'toN',
               to_n::text, 'lost', tokens_lost::text, 'recovered', recovered::text, 'entriesLost', entries_lost,
               'detectedAt', detected_at) order by id desc), '[]')
               from (select * from worker.usage_gaps where shard = p_shard order by id desc limit p_items) g))
$$;
revoke all on function worker.usage_explain from public, anon, authenticated;
grant execute on function worker.usage_explain to service_role;
