-- Compares the counters of a shard with the ledger at one instant, books what the log is known to have lost, and plans
-- the correction of the counters. Both sides describe the same instant only while the cursor stands at the last entry
-- that the counters knew; anything else changes nothing.
--   p_inc, p_n       lineage and last entry of the log when the counters were read
--   p_cum, p_anchor  its running sum and anchor; compared with the cursor unless p_is_verified: then a drain has
--                    just checked that the log is the one of the cursor
--   p_epoch          `rep` when the counters were read; '' = none
--   p_repair         id for the correction that this call may plan
--   p_periods        whose counters were read, at most 36; p_tenant .. p_tokens the counters, at most 200,000, one array
--                    per column; tokens null = not a number
--   p_auto_max, p_many_min, p_many_share  see usage_classify_drifts
--   p_repairs_max    counters that one correction may hold
--   p_apply          false = write findings and change nothing else
--   returns  {status: compared, causes: {cause: number}, tokens: sum of |drift|, held, waiting, booked, more,
--             repairs: {tenant: [], period: [], delta: []}}   more = call again when these are done
--          | {status: elsewhere, inc, n, cum, count, anchor}  the cursor stands there
--          | {status: periods, periods}                       these have to be read too
--          | {status: spent}                                  another correction was planned on this epoch: renew it
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_consolidate_shard(p_run uuid, p_shard int, p_inc text, p_n bigint, p_cum numeric,
  p_anchor text, p_is_verified boolean, p_epoch text, p_repair uuid, p_periods int[], p_tenant text[], p_period int[],
  p_tokens numeric[], p_auto_max numeric, p_many_min int, p_many_share numeric, p_repairs_max int, p_apply boolean)
returns jsonb language plpgsql volatile security invoker
set search_path = '' set jit = off set max_parallel_workers_per_gather = 0 set statement_timeout = '20s' as $$
declare
  s worker.usage_shards;
  v_open int[];
  v_later int[];
  v_found worker.usage_drift_finding[];
begin
  if coalesce(cardinality(p_periods), 0) not between 1 and 36 or coalesce(cardinality(p_tenant), 0) > 200000
     or array[coalesce(cardinality(p_period), 0), coalesce(cardinality(p_tokens), 0)]
        <> array_fill(coalesce(cardinality(p_tenant), 0), array[2]) then
    raise exception 'usage_argument_invalid: 1 to 36 periods, columns of one length and at most 200000 counters'
      using errcode = 'UL001';
  end if;
  insert into worker.usage_shards (shard) values (p_shard) on conflict on constraint usage_shards_pkey do nothing;
  select * into s from worker.usage_shards where shard = p_shard for update;
  if s.inc <> p_inc or s.n <> p_n
     or (not p_is_verified and (s.cum is distinct from p_cum or s.anchor is distinct from p_anchor)) then
    return jsonb_build_object('status', 'elsewhere', 'inc', s.inc, 'n', s.n::text, 'cum', s.cum::text,
      'count', s.count::text, 'anchor', s.anchor);
  end if;

  perform worker.usage_settle_repair(repair_id, repair_id::text = p_epoch)
    from worker.usage_repairs where shard = p_shard and status = 'planned' and epoch <> p_epoch;
  if p_apply and exists (select from worker.usage_repairs where shard = p_shard and epoch = p_epoch) then
    return jsonb_build_object('status', 'spent');
  end if;
  v_later := worker.usage_later_periods(p_shard, (select max(p) from unnest(p_periods) p));
  if cardinality(v_later) > 0 and cardinality(p_periods || v_later) <= 36 then
    return jsonb_build_object('status', 'periods', 'periods', v_later);
  end if;

  select coalesce(array_agg(p), '{}') into v_open from unnest(p_periods) p
   where not exists (select from worker.usage_periods where period = p and state = 'closed');
  select coalesce(array_agg(f), '{}') into v_found
    from worker.usage_classify_drifts(p_run, p_shard, v_open, p_tenant, p_period, p_tokens, p_auto_max, p_many_min,
           p_many_share) f;
  if not p_apply then
    return worker.usage_note_drifts(p_run, p_shard, p_inc, p_n, v_found);
  end if;
  return worker.usage_act_on_drifts(p_run, p_shard, p_inc, p_n, p_epoch, p_repair, p_repairs_max, v_found);
end $$;
revoke all on function worker.usage_consolidate_shard from public, anon, authenticated;
grant execute on function worker.usage_consolidate_shard to service_role;
