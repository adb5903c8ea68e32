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
