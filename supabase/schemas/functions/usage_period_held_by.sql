-- Part of usage_close_period: what keeps a month from being closed; [] = nothing. At most ten ids of each.
--   p_despite  kinds of reasons that a person overrules: grace, open_gap, open_quarantine
--   returns    [{reason: grace, until} | {reason: shards_behind, shards, sample} | {reason: open_gap, gaps, tokens, ids}
--              | {reason: open_quarantine, entries, ids}]; numbers that may be large as text
create or replace function worker.usage_period_held_by(p_period int, p_now timestamptz, p_despite text[]) returns jsonb
language plpgsql stable security invoker set search_path = '' set timezone = 'UTC' as $$
declare
  v_from timestamptz := worker.usage_period_start(p_period);
  v_until timestamptz := (select grace_until from worker.usage_periods where period = p_period);
  v_held jsonb := '[]';
  v_found jsonb;
begin
  if p_now < v_until and not 'grace' = any (p_despite) then
    v_held := v_held || jsonb_build_object('reason', 'grace', 'until', v_until);
  else
    select jsonb_build_object('reason', 'shards_behind', 'shards', count(*),
             'sample', to_jsonb((array_agg(shard order by shard))[1:10]))
      into v_found
      from (select shard, b.passed_at
              from (select shard from worker.usage_shards where inc <> '') s -- also one that nobody noted
              full join (select * from worker.usage_period_shards where period = p_period and inc is not null) b
                using (shard)) shards
     where passed_at is null
    having count(*) > 0;
    v_held := v_held || coalesce(v_found, '[]');
  end if;

  -- A loss that was noticed before the month began is none of the month's, nor is one of entries after the barrier, nor
  -- one that was noticed after everything up to the barrier had been read.
  select jsonb_build_object('reason', 'open_gap', 'gaps', count(*), 'tokens', sum(g.tokens_lost - g.recovered)::text,
           'ids', to_jsonb((array_agg(g.id::text order by g.id))[1:10]))
    into v_found
    from worker.usage_gaps g
    left join worker.usage_period_shards b on b.period = p_period and b.shard = g.shard
   where (g.tokens_lost <> g.recovered or g.entries_lost <> g.entries_recovered) and g.detected_at >= v_from
     and not (g.inc = coalesce(b.inc, '') and g.from_n > b.n)
     and (b.passed_at is null or g.detected_at <= b.passed_at)
  having count(*) > 0;
  if not 'open_gap' = any (p_despite) then
    v_held := v_held || coalesce(v_found, '[]');
  end if;

  -- Of an entry without a readable month only the time says that it may be of this one.
  select jsonb_build_object('reason', 'open_quarantine', 'entries', count(*),
           'ids', to_jsonb((array_agg(id::text order by id))[1:10]))
    into v_found
    from worker.usage_quarantine
   where resolved_at is null
     and (period = p_period or (period is null and detected_at >= v_from and detected_at < v_until))
  having count(*) > 0;
  if not 'open_quarantine' = any (p_despite) then
    v_held := v_held || coalesce(v_found, '[]');
  end if;
  return v_held;
end $$;
revoke all on function worker.usage_period_held_by from public, anon, authenticated;
grant execute on function worker.usage_period_held_by to service_role;
