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
