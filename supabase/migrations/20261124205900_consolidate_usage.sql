-- Why: one call compares the counters of a shard with the ledger at one instant and decides what follows. It comes after
--   the lanes, because no counter of the log counts what came through a legacy lane.
-- Lock: new functions only.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: does not call these functions.

-- Part of usage_used_tokens and usage_counter_digest: whether anything happened in one of these months and is billed in
-- another, or the other way round. In most months nothing did.
create or replace function worker.usage_has_moved(p_periods int[]) returns boolean
language sql stable security invoker
set search_path = '' set enable_seqscan = off as $$ -- the planner takes moved uses for common and reads the whole ledger
  select exists (select from worker.usage_ledger where usage_period <> period and usage_period = any (p_periods))
      or exists (select from worker.usage_ledger where usage_period <> period and period = any (p_periods))
$$;
revoke all on function worker.usage_has_moved from public, anon, authenticated;
grant execute on function worker.usage_has_moved to service_role;

-- Part of usage_compare_counters and usage_counter_digest: what the tenants of a shard used in some periods, as far as the
-- counters of the log know. Legacy lanes are left out: no counter of the log counts them.
--   returns  used = happened in the period; total = tokens of usage_totals, null without a row
create or replace function worker.usage_used_tokens(p_shard int, p_periods int[])
returns table (tenant text, period int, used numeric, total numeric)
language plpgsql stable security invoker
set search_path = '' set enable_seqscan = off as $$ -- the planner takes moved uses for common
#variable_conflict use_column
begin
  if not worker.usage_has_moved(p_periods) then
    return query
    select t.tenant, t.period, t.tokens - t.legacy, t.tokens
      from worker.usage_totals t
     where t.shard = p_shard and t.period = any (p_periods);
    return;
  end if;
  return query
  with billed as (
    select t.tenant, t.period, t.tokens - t.legacy as tokens, t.tokens as total
      from worker.usage_totals t
     where t.shard = p_shard and t.period = any (p_periods)),
  moved as (
    select l.tenant, l.period, sum(l.tokens) as tokens
      from (select tenant, usage_period as period, tokens, period as billed_in, lane
              from worker.usage_ledger
             where usage_period <> period and usage_period = any (p_periods)
            union all
            select tenant, period, -tokens, period, lane
              from worker.usage_ledger
             where usage_period <> period and period = any (p_periods)) l
     where l.lane not like 'legacy%'
       and exists (select from worker.usage_totals t
                    where t.tenant = l.tenant and t.period = l.billed_in and t.shard = p_shard)
     group by l.tenant, l.period)
  select tenant, period, coalesce(b.tokens, 0) + coalesce(m.tokens, 0), b.total
    from billed b full join moved m using (tenant, period);
end $$;
revoke all on function worker.usage_used_tokens from public, anon, authenticated;
grant execute on function worker.usage_used_tokens to service_role;

-- Part of usage_match_shards: what the counters of a shard and month have to be, as one hash that the worker
-- computes of the counters in the same way: MD5 of the lines `<tokens> <tenant>`, by tenant, without those that are 0.
create or replace function worker.usage_counter_digest(p_shard int, p_period int) returns text
language plpgsql stable security invoker
set search_path = '' set enable_seqscan = off set enable_sort = off as $$ -- the index has the order
declare
  v_lines text;
begin
  if worker.usage_has_moved(array[p_period]) then
    select string_agg(concat(used, ' ', tenant), e'\n' order by tenant collate "C") into v_lines
      from worker.usage_used_tokens(p_shard, array[p_period])
     where used <> 0;
  else
    select string_agg(concat(tokens, ' ', tenant), e'\n') into v_lines
      from (select tenant, tokens - legacy as tokens from worker.usage_totals
             where shard = p_shard and period = p_period and tokens <> legacy
             order by tenant) used;
  end if;
  return md5(coalesce(v_lines, ''));
end $$;
revoke all on function worker.usage_counter_digest from public, anon, authenticated;
grant execute on function worker.usage_counter_digest to service_role;

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

-- Part of usage_consolidate_shard: the counters of a shard that differ from what the ledger says happened in their
-- period.
--   p_periods             that are compared; counters of others are ignored
--   p_tenant .. p_tokens  the counters, one array per column; tokens null = not a number
--   returns  redis: null when there is no number; used, total: see usage_used_tokens
create or replace function worker.usage_compare_counters(p_shard int, p_periods int[], p_tenant text[], p_period int[],
  p_tokens numeric[])
returns table (tenant text, period int, redis numeric, has_counter boolean, used numeric, total numeric)
language plpgsql stable security invoker set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  with counters as (
    select c.tenant collate "C" as tenant, c.period, c.tokens
      from unnest(p_tenant, p_period, p_tokens) as c (tenant, period, tokens)
     where c.period = any (p_periods)),
  happened as (
    select u.tenant collate "C" as tenant, u.period, u.used, u.total from worker.usage_used_tokens(p_shard, p_periods) u)
  select tenant, period, c.tokens, c.tenant is not null, coalesce(h.used, 0), h.total
    from counters c full join happened h using (tenant, period)
   where coalesce(c.tokens, 0) <> coalesce(h.used, 0) or (c.tenant is not null and c.tokens is null);
end $$;
revoke all on function worker.usage_compare_counters from public, anon, authenticated;
grant execute on function worker.usage_compare_counters to service_role;

-- Part of usage_consolidate_shard: why each counter differs, and what follows from it.
--   p_auto_max               corrections of more than this need a person
--   p_many_min, p_many_share  that many tenants and that share of the shard's tenants at once, without a known reason,
--                            need a person too
--   returns  state: planned = correct it, hold_for_approval or wait_for_quarantine = change nothing
--            evidence.hold: total_edited | sum_differs | above_auto_max | many_tenants
create or replace function worker.usage_classify_drifts(p_run uuid, p_shard int, p_periods int[], p_tenant text[],
  p_period int[], p_tokens numeric[], p_auto_max numeric, p_many_min int, p_many_share numeric)
returns setof worker.usage_drift_finding
language plpgsql stable security invoker set search_path = '' set jit = off as $$
#variable_conflict use_column
declare
  v_missing numeric;                       -- vanished between write and read, and not accounted for yet
  v_missing_entries bigint;                -- null when nobody counted
  v_lost numeric;                          -- that, and what a rewound log lost
  v_lost_entries bigint;
  v_has_gap boolean;
  v_has_nameless boolean;                  -- something is in quarantine of which nobody knows whose it is
  v_is_rewound boolean;                    -- Redis lost something since the last consolidation
  v_absent int[];                          -- periods without a single counter: expired, evicted or flushed
begin
  select coalesce(sum(missing) filter (where cause = 'missing_entries'), 0),
         case when bool_and(entries is not null) filter (where cause = 'missing_entries')
              then sum(entries) filter (where cause = 'missing_entries') end,
         coalesce(sum(missing), 0), case when bool_and(entries is not null) then sum(entries) end, count(*) > 0
    into v_missing, v_missing_entries, v_lost, v_lost_entries, v_has_gap
    from (select cause, tokens_lost - recovered as missing, entries_lost - entries_recovered as entries
            from worker.usage_gaps where shard = p_shard) gap
   where missing <> 0 or entries <> 0;
  v_has_nameless := exists (
    select from worker.usage_quarantine
     where shard = p_shard and resolved_at is null and tenant is null and lane = 'log');
  v_is_rewound := exists (
    select from worker.usage_lineages l
      join worker.usage_shards s on s.shard = l.shard
     where l.shard = p_shard and l.cause <> 'first'
       and (s.consolidated_at is null or l.ended_at > s.consolidated_at));
  -- The first corrections of a run create the counters, and the rest must not look like another kind of drift.
  select coalesce(array_agg(period), '{}') into v_absent
    from (select unnest(p_periods) as period
          except select unnest(p_period)
          union select distinct period from worker.usage_drifts
           where run_id = p_run and shard = p_shard and evidence ->> 'counters' = 'absent') absent;

  return query
  with fact as (
    select d.tenant, d.period, d.redis, d.has_counter, d.total, l.tokens as ledger, q.entries as quarantined,
           q.tokens as quarantined_tokens, d.period = any (v_absent) as is_absent,
           coalesce(d.total, 0) <> coalesce(l.tokens, 0) as is_edited,
           d.used - (coalesce(d.total, 0) - coalesce(l.tokens, 0)) as used
      from worker.usage_compare_counters(p_shard, p_periods, p_tenant, p_period, p_tokens) d
      left join lateral (
        select sum(tokens) as tokens from worker.usage_ledger where period = d.period and tenant = d.tenant) l on true
      left join lateral (
        select count(*) as entries, sum(tokens) as tokens from worker.usage_quarantine
         where tenant = d.tenant and (period = d.period or period is null) and resolved_at is null
           and shard = p_shard and lane = 'log') q on true),
  measured as (
    select *, coalesce(redis, 0) - used as drift from fact),
  witnessed as ( -- a counter that can say something about lost entries
    select *, not is_absent and redis is not null and (quarantined = 0 or drift is distinct from quarantined_tokens)
                as is_witness
      from measured),
  sums as (
    select coalesce(sum(drift) filter (where drift > 0), 0) as surplus, count(*) filter (where drift > 0) as ahead,
           coalesce(sum(drift) filter (where drift < 0), 0) as shortfall, count(*) filter (where drift < 0) as behind
      from witnessed where is_witness),
  verdict as (
    -- The counters are believed only when they differ by exactly what the log is known to have lost. A rewind took the
    -- counters with it, as a rule, but the log alone can lose its end too.
    select surplus, shortfall, coalesce(bool_or(is_exact), false) as is_exact
      from (select s.*, (lost > 0 and surplus = lost and ahead <= coalesce(entries, ahead))
                        or (lost < 0 and shortfall = lost and behind <= coalesce(entries, behind)) as is_exact
              from sums s
             cross join (values (v_missing, v_missing_entries), (v_lost, v_lost_entries)) gap (lost, entries)) each
     group by surplus, shortfall),
  suspected as (
    select w.*, v.is_exact, v.surplus, v.shortfall,
           w.is_witness and v_has_gap and (
             (w.drift > 0 and greatest(v_missing, v_lost, v_lost - v_missing) > 0)
             or (w.drift < 0 and least(v_missing, v_lost, v_lost - v_missing) < 0)
             or (not v.is_exact and v.surplus + v.shortfall in (v_missing, v_lost))) as is_lost
      from witnessed w cross join verdict v),
  explained as (
    select *, case when is_edited then 'total_edited'
                   when has_counter and redis is null then 'redis_unreadable'
                   when has_counter and drift = quarantined_tokens then 'quarantined'
                   when is_lost then 'entry_lost_before_apply'
                   when not has_counter then 'redis_key_missing'
                   when drift > 0 and (quarantined > 0 or v_has_nameless) then 'quarantined'
                   when drift < 0 and quarantined_tokens < 0 then 'quarantined'
                   when drift < 0 then 'redis_behind'
                   else 'redis_ahead' end as cause,
           drift < 0 and (is_absent or v_is_rewound) as is_expected
      from suspected),
  counted as (
    select count(distinct tenant) filter (where cause like 'redis%' and not is_expected) as odd,
           max(abs(drift)) filter (where cause = 'entry_lost_before_apply') as largest_lost
      from explained),
  weighed as (
    select *, case when odd >= p_many_min then (
             select count(distinct tenant)
               from (select unnest(p_tenant) collate "C" as tenant
                     union all
                     select tenant from worker.usage_totals where shard = p_shard and period = any (p_periods)) known)
           end as of_tenants
      from counted),
  held as (
    select e.*, c.odd, c.of_tenants,
           case when cause = 'total_edited' then 'total_edited'
                when cause = 'quarantined' then null
                when cause = 'entry_lost_before_apply' and not is_exact then 'sum_differs'
                when cause = 'entry_lost_before_apply' and largest_lost > p_auto_max then 'above_auto_max'
                when abs(drift) > p_auto_max then 'above_auto_max'
                when cause like 'redis%' and not is_expected and c.odd > p_many_share * c.of_tenants
                  then 'many_tenants'
           end as hold
      from explained e cross join weighed c)
  select tenant, period, redis, used, case when is_edited then coalesce(total, 0) - coalesce(ledger, 0) else drift end,
         cause,
         case when is_edited then 'total' when cause = 'entry_lost_before_apply' and is_exact then 'ledger'
              else 'counter' end,
         case when cause = 'quarantined' then 'wait_for_quarantine'
              when hold is not null then 'hold_for_approval'
              else 'planned' end,
         jsonb_strip_nulls(jsonb_build_object(
           'hold', hold,
           'counters', case when is_absent then 'absent' end,
           'rewound', case when v_is_rewound and drift < 0 then true end,
           'gap', case when is_lost then v_lost::text end,
           'gapEntries', case when is_lost then v_lost_entries::text end,
           'rewindGap', case when is_lost and v_lost <> v_missing then (v_lost - v_missing)::text end,
           'surplus', case when is_lost then surplus::text end,
           'shortfall', case when is_lost then shortfall::text end,
           'total', case when is_edited then coalesce(total, 0)::text end,
           'ledger', case when is_edited then coalesce(ledger, 0)::text end,
           'quarantined', case when cause = 'quarantined' then quarantined end,
           'quarantinedTokens', case when cause = 'quarantined' then quarantined_tokens::text end,
           'tenants', case when hold = 'many_tenants' then odd end,
           'ofTenants', case when hold = 'many_tenants' then of_tenants end))
    from held;
end $$;
revoke all on function worker.usage_classify_drifts from public, anon, authenticated;
grant execute on function worker.usage_classify_drifts to service_role;

-- Part of usage_act_on_drifts: a total that was edited by hand becomes the sum of the ledger again.
create or replace function worker.usage_rebuild_total(p_tenant text, p_period int, p_shard int) returns void
language sql volatile security invoker set search_path = '' as $$
  insert into worker.usage_totals (tenant, period, tokens, events, late, future, legacy, shard)
  select p_tenant, p_period, coalesce(sum(tokens), 0), coalesce(sum(events), 0),
         coalesce(sum(tokens) filter (where reason = 'late'), 0),
         coalesce(sum(tokens) filter (where reason = 'future'), 0),
         coalesce(sum(tokens) filter (where lane like 'legacy%'), 0), p_shard
    from worker.usage_ledger
   where period = p_period and tenant = p_tenant
  on conflict on constraint usage_totals_pkey do update
    set tokens = excluded.tokens, events = excluded.events, late = excluded.late, future = excluded.future,
        legacy = excluded.legacy, updated_at = now()
$$;
revoke all on function worker.usage_rebuild_total from public, anon, authenticated;
grant execute on function worker.usage_rebuild_total to service_role;

-- Part of usage_consolidate_shard, which holds the shard: writes the differences down, does what the ledger's side needs
-- and plans what the counters need. What a person decided about a difference holds while it is the same difference.
create or replace function worker.usage_act_on_drifts(p_run uuid, p_shard int, p_inc text, p_n bigint, p_epoch text,
  p_repair uuid, p_repairs_max int, p_found worker.usage_drift_finding[]) returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off as $$
declare
  v_booked numeric;
  v_lost numeric;
  v_due bigint;
  v_held bigint;
  v_waiting bigint;
  v_edited worker.usage_drifts[];
  v_repairs jsonb;
begin
  update worker.usage_drifts d set state = 'superseded', last_run_id = p_run, seen_at = now()
   where d.shard = p_shard and d.state in ('hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected')
     and not exists (select from unnest(p_found) f
                      where f.tenant = d.tenant and f.period = d.period and f.drift = d.drift and f.cause = d.cause);

  with known as (
    select f.tenant, f.period, f.redis, f.used, f.drift, f.cause, f.evidence, d.id,
           case when d.state = 'approved' then d.repair else f.repair end as repair,
           case d.state when 'approved' then 'planned' when 'rejected' then 'rejected' else f.state end as state,
           d.state as standing
      from unnest(p_found) f
      left join worker.usage_drifts d on d.tenant = f.tenant and d.period = f.period
       and d.state in ('hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected')),
  ranked as (
    select *, count(*) filter (where state = 'planned' and repair = 'counter') over (order by period, tenant) as place
      from known),
  due as ( -- an approved correction of a counter stays approved until it is confirmed
    select *, state = 'planned' and repair = 'counter' as is_correction,
           case when state = 'planned' and repair <> 'counter' then 'repaired'
                when state = 'planned' and standing = 'approved' then 'approved'
                else state end as next_state
      from ranked
     where not (state = 'planned' and repair = 'counter' and place > p_repairs_max)),
  seen as (
    update worker.usage_drifts d
       set last_run_id = p_run, seen_at = now(), inc = p_inc, n = p_n, redis = u.redis, used = u.used,
           evidence = u.evidence, repair = u.repair, state = u.next_state,
           repair_id = case when u.is_correction then p_repair end,
           repaired_at = case when u.next_state = 'repaired' then now() end
      from due u
     where d.id = u.id
    returning d.*),
  new as (
    insert into worker.usage_drifts (run_id, last_run_id, shard, tenant, period, inc, n, redis, used, drift, cause,
      repair, state, repair_id, evidence, repaired_at)
    select p_run, p_run, p_shard, tenant, period, p_inc, p_n, redis, used, drift, cause, repair, next_state,
           case when is_correction then p_repair end, evidence, case when next_state = 'repaired' then now() end
      from due
     where id is null
    returning *),
  done as (
    select * from seen union all select * from new),
  ledger as (
    insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason, note, lane)
    select tenant, period, period, drift, 0, 'adjust:' || cause,
           jsonb_strip_nulls(jsonb_build_object('key', 'drift:' || id, 'run', p_run, 'redis', redis::text,
             'used', used::text, 'at', p_n::text, 'evidence', evidence, 'decision', decisions -> -1)), 'adjust'
      from done
     where state = 'repaired' and repair = 'ledger'
    on conflict ((note ->> 'key')) where note ? 'key' do nothing
    returning tenant, period, tokens, reason),
  totals as (
    insert into worker.usage_totals as t (tenant, period, tokens, shard)
    select tenant, period, sum(tokens), p_shard from ledger group by tenant, period order by tenant, period
    on conflict on constraint usage_totals_pkey do update
      set tokens = t.tokens + excluded.tokens, updated_at = now()),
  corrections as (
    select tenant, period, -drift as delta from done where repair_id = p_repair order by period, tenant)
  select (select coalesce(sum(tokens), 0) from ledger),
         (select coalesce(sum(tokens), 0) from ledger where reason = 'adjust:entry_lost_before_apply'),
         (select count(*) from known where state = 'planned' and repair = 'counter'),
         (select count(*) from done where state = 'hold_for_approval'),
         (select count(*) from done where state = 'wait_for_quarantine'),
         (select array_agg(d) from done d where state = 'repaired' and repair = 'total'),
         jsonb_build_object('tenant', coalesce(jsonb_agg(tenant), '[]'), 'period', coalesce(jsonb_agg(period), '[]'),
           'delta', coalesce(jsonb_agg(delta::text), '[]'))
    into v_booked, v_lost, v_due, v_held, v_waiting, v_edited, v_repairs
    from corrections;

  perform worker.usage_rebuild_total(tenant, period, p_shard) from unnest(v_edited);
  if v_lost <> 0 then
    perform worker.usage_close_gaps(p_shard, v_lost);
  end if;
  if v_due > 0 then
    insert into worker.usage_repairs (repair_id, run_id, shard, epoch) values (p_repair, p_run, p_shard, p_epoch);
  else
    update worker.usage_shards set consolidated_at = now() where shard = p_shard;
  end if;
  return worker.usage_sum_drifts(p_found) || jsonb_build_object('held', v_held, 'waiting', v_waiting,
    'booked', v_booked::text, 'more', v_due > p_repairs_max, 'repairs', v_repairs);
end $$;
revoke all on function worker.usage_act_on_drifts from public, anon, authenticated;
grant execute on function worker.usage_act_on_drifts to service_role;

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
