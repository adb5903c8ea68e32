-- Asks for several shards whether counters and ledger agree. Most do, and a hash says so: only the counters of the
-- others have to travel. One statement sees cursor and totals of one instant. A shard that agrees is done in its run.
--   p_run     the run; null = none
--   p_shards  [{shard, inc, n, cum, anchor, verified, digests: {period: hash}}], at most 64; see
--             usage_consolidate_shard and usage_counter_digest
--   p_apply   false = nothing is remembered but the progress of the run
--   returns   [{shard, status, inc, n, cum, count, anchor}]
--             agreed     and nothing of the shard is waiting for anybody
--             differs    something has to be looked at
--             elsewhere  the cursor stands there, and not at the instant of the counters
--   raises    UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_match_shards(p_run uuid, p_shards jsonb, p_apply boolean) returns jsonb
language plpgsql volatile security invoker
set search_path = '' set jit = off set max_parallel_workers_per_gather = 0 set enable_seqscan = off -- of the ledger
set statement_timeout = '20s' as $$
declare
  v_answer jsonb;
  v_agreed int[];
begin
  if jsonb_array_length(p_shards) > 64 then
    raise exception 'usage_argument_invalid: more than 64 shards' using errcode = 'UL001';
  end if;
  with asked as (
    select a.shard, a.digests, coalesce(s.inc, '') as inc, coalesce(s.n, 0) as n, s.cum, s.count, s.anchor,
           a.inc = coalesce(s.inc, '') and a.n = coalesce(s.n, 0)
             and (a.verified or (a.cum is not distinct from s.cum and a.anchor is not distinct from s.anchor)) as is_here,
           (select max(p::int) from jsonb_object_keys(a.digests) p) as latest, f.far
      from jsonb_to_recordset(p_shards)
        as a (shard int, inc text, n bigint, cum numeric, anchor text, verified boolean, digests jsonb)
     cross join (select max(usage_period) as far from worker.usage_ledger where usage_period <> period) f
      left join worker.usage_shards s on s.shard = a.shard),
  judged as materialized ( -- the hashes are computed once
    select *, case when not is_here then 'elsewhere'
                   when exists (select from worker.usage_repairs r where r.shard = a.shard and r.status = 'planned')
                     or exists (select from worker.usage_drifts d
                                 where d.shard = a.shard
                                   and d.state in ('hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected'))
                     or exists (select from worker.usage_totals t where t.shard = a.shard and t.period > latest)
                     or (far > latest and worker.usage_later_periods(a.shard, latest) <> '{}')
                     or exists (select from jsonb_each_text(a.digests) d (period, hash)
                                 where d.hash <> worker.usage_counter_digest(a.shard, d.period::int)
                                   and not exists (select from worker.usage_periods p
                                                    where p.period = d.period::int and p.state = 'closed'))
                     then 'differs'
                   else 'agreed' end as status
      from asked a)
  select coalesce(jsonb_agg(jsonb_build_object('shard', shard, 'status', status, 'inc', inc, 'n', n::text,
           'cum', cum::text, 'count', count::text, 'anchor', anchor) order by shard), '[]'),
         coalesce(array_agg(shard) filter (where status = 'agreed'), '{}')
    into v_answer, v_agreed from judged;
  if p_apply and v_agreed <> '{}' then
    perform from worker.usage_shards where shard = any (v_agreed) order by shard for update;
    update worker.usage_shards s set consolidated_at = now()
      from jsonb_to_recordset(p_shards) as a (shard int, inc text)
     where s.shard = any (v_agreed) and a.shard = s.shard and a.inc = s.inc;
  end if;
  -- What booked something in this run says how much; the last report may end the run.
  update worker.usage_run_shards r set state = 'done', updated_at = now()
   where r.run_id = p_run and r.shard = any (v_agreed[2:])
     and not exists (select from worker.usage_batches b where b.run_id = p_run and b.shard = r.shard);
  perform worker.usage_report_shard(p_run, shard, 'done') from unnest(v_agreed) with ordinality a (shard, i)
    where p_run is not null
      and (i = 1 or exists (select from worker.usage_batches b where b.run_id = p_run and b.shard = a.shard));
  return v_answer;
end $$;
revoke all on function worker.usage_match_shards from public, anon, authenticated;
grant execute on function worker.usage_match_shards to service_role;
