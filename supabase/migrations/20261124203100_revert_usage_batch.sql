-- Why: a batch that should never have been booked is taken back with rows that say so, and old uses that are booked
--   afterwards have a reason of their own.
-- Lock: an exclusive lock on usage_batches for nullable columns and on usage_ledger for a check that reads it once, about
--   a second for ten million rows. The index is a few pages.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: still runs; it knows neither the columns nor the reason.

alter table worker.usage_batches add column if not exists reverted_at timestamptz;
alter table worker.usage_batches add column if not exists reverted_by text;
alter table worker.usage_batches add column if not exists revert_reason text;

alter table worker.usage_ledger drop constraint if exists usage_ledger_reason_check;
alter table worker.usage_ledger add constraint usage_ledger_reason_check
  check (reason in ('usage', 'late', 'future', 'backfill') or reason like 'adjust:_%');
-- The rows of a batch lie together, so the ranges of pages say enough, and inserting costs nothing.
create index if not exists usage_ledger_batch_id_idx on worker.usage_ledger
  using brin (batch_id) with (pages_per_range = 32, autosummarize = on);

-- Takes a booked batch back: one negative ledger row for each of its rows, and the totals with them. Nothing is deleted,
-- and the events stay, so that the same uses can never be booked again by themselves. What was billed in a month that
-- is closed by now is taken back in the first later month that is not. A batch is taken back once.
--   p_who, p_reason  are kept with the batch and with each ledger row
--   returns  {status: reverted, rows, tokens} | {status: known, at, who}; tokens = what the totals changed by, as text
--          | {status: growing}   a legacy lane may still book into it today; tomorrow it can be taken back
--          | {status: unknown}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_revert_batch(p_batch bigint, p_reason text, p_who text) returns jsonb
language plpgsql volatile security invoker
set search_path = '' set timezone = 'UTC' set jit = off set statement_timeout = '20s' as $$
declare
  b worker.usage_batches;
  v_closed int[];
  v_rows int;
  v_tokens numeric;
begin
  if coalesce(trim(p_reason), '') = '' or coalesce(trim(p_who), '') = '' then
    raise exception 'usage_argument_invalid: say who takes the batch back, and why' using errcode = 'UL001';
  end if;
  select * into b from worker.usage_batches where batch_id = p_batch;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  perform from worker.usage_shards where shard = b.shard for update; -- as everything that books
  select * into b from worker.usage_batches where batch_id = p_batch;
  if b.reverted_at is not null then
    return jsonb_build_object('status', 'known', 'at', b.reverted_at, 'who', b.reverted_by);
  end if;
  if b.fork < 0 and b.from_n >= (now() at time zone 'UTC')::date - date '1970-01-01' then
    return jsonb_build_object('status', 'growing');
  end if;
  -- Read after the shard is locked: whoever closes a month waits for it.
  select coalesce(array_agg(period), '{}') into v_closed from worker.usage_periods where state = 'closed';

  with booked as (
    select id, tenant, worker.usage_next_open_period(period, v_closed) as period, usage_period, token_type, model,
           -tokens as tokens, -events as events, lane
      from worker.usage_ledger
     where batch_id = p_batch),
  ledger as (
    insert into worker.usage_ledger (tenant, period, usage_period, token_type, model, tokens, events, reason, note, lane)
    select tenant, period, usage_period, token_type, model, tokens, events, 'adjust:revert',
           jsonb_build_object('batch', p_batch::text, 'row', id::text, 'who', p_who, 'why', p_reason), lane
      from booked),
  totals as (
    insert into worker.usage_totals as t (tenant, period, tokens, events, late, future, legacy, shard)
    select tenant, period, sum(tokens), sum(events),
           coalesce(sum(tokens) filter (where usage_period < period), 0),
           coalesce(sum(tokens) filter (where usage_period > period), 0),
           coalesce(sum(tokens) filter (where lane like 'legacy%'), 0), b.shard
      from booked
     group by tenant, period
     order by tenant, period
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, events = t.events + excluded.events, late = t.late + excluded.late,
          future = t.future + excluded.future, legacy = t.legacy + excluded.legacy, updated_at = now())
  select count(*), coalesce(sum(tokens), 0) into v_rows, v_tokens from booked;
  update worker.usage_batches set reverted_at = now(), reverted_by = p_who, revert_reason = p_reason where batch_id = p_batch;
  return jsonb_build_object('status', 'reverted', 'rows', v_rows, 'tokens', v_tokens::text);
end $$;
revoke all on function worker.usage_revert_batch from public, anon, authenticated;
grant execute on function worker.usage_revert_batch to service_role;
