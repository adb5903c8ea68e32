-- Remembers the values of some counters, books the growth of those that book, and compares both sides of their tenants,
-- in one transaction. A counter moves only from where the caller saw it (compare-and-swap on seen and generation), so
-- a repeated or a concurrent call moves and books nothing.
--   p_moves     at most 5000 of {key, tenant, shard, kind, cause, seen, generation, value, books, uid, period, day, type,
--               model, agent, conversation}; seen null = not remembered. kind first: remember only. growth: value is
--               seen (or 0) plus what was used. gap: nobody knows what happened, nothing is booked; cause says what
--   p_compared  [{tenant, grown, direct, pending, was_grown, was_direct, was_pending, apart, cause, drift, drift_cause,
--               evidence}]; drift null = nothing to report. A tenant whose counters moved elsewhere meanwhile is left
--   returns     {moved, stale, tokens}; tokens = booked, as text
--   raises      UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_legacy_move_counters(p_run uuid, p_scope text, p_moves jsonb,
  p_compared jsonb default '[]') returns jsonb
language plpgsql volatile security invoker set search_path = '' set jit = off set statement_timeout = '20s' as $$
declare
  v_moved text[];
  v_tokens numeric := 0;
  v_grown numeric;
  v_gaps bigint;
  v_drifts bigint;
begin
  if greatest(jsonb_array_length(p_moves), jsonb_array_length(p_compared)) > 5000 then
    raise exception 'usage_argument_invalid: at most 5000 counters and tenants' using errcode = 'UL001';
  end if;
  -- Shards, counters, tenants, each in order: nobody who locks some of them can wait for us in a circle.
  perform worker.usage_legacy_lock_shards(array(
    select (m ->> 'shard')::int from jsonb_array_elements(p_moves) m where (m ->> 'books')::boolean));
  perform from worker.usage_legacy_counters
    where key in (select m ->> 'key' from jsonb_array_elements(p_moves) m) order by key for update;
  insert into worker.usage_legacy_tenants (tenant, shard)
  select m ->> 'tenant', min((m ->> 'shard')::int) from jsonb_array_elements(p_moves) m group by 1 order by 1
  on conflict on constraint usage_legacy_tenants_pkey do nothing;
  perform from worker.usage_legacy_tenants
    where tenant in (select m ->> 'tenant' from jsonb_array_elements(p_moves || p_compared) m) order by tenant for update;

  with move as (
    select * from jsonb_to_recordset(p_moves)
      as m (key text, tenant text, kind text, seen numeric, generation int, value numeric)),
  changed as (
    update worker.usage_legacy_counters c
       set seen = m.value, generation = c.generation + (m.kind = 'gap')::int, moved_at = now()
      from move m
     where c.key = m.key and c.scope = p_scope and c.seen = m.seen and c.generation = m.generation
    returning c.key),
  made as (
    insert into worker.usage_legacy_counters as c (key, scope, tenant, seen)
    select key, p_scope, tenant, value from move where seen is null order by key
    on conflict on constraint usage_legacy_counters_pkey do update
      set scope = excluded.scope, tenant = excluded.tenant, seen = excluded.seen, generation = c.generation + 1,
          moved_at = now()
      where c.scope <> excluded.scope
    returning c.key)
  select array(select key from changed union select key from made) into v_moved;

  select coalesce((worker.usage_legacy_book('legacy_counter', array_agg(uid), array_agg(tenant), array_agg(shard),
           array_agg(period), array_agg(day), array_agg(value - coalesce(seen, 0)), array_agg(type), array_agg(model),
           null, array_agg(agent), array_agg(conversation),
           array_agg(jsonb_build_object('key', key, 'generation', coalesce(generation, 0), 'from', coalesce(seen, 0)::text,
             'to', value::text))) ->> 'tokens')::numeric, 0)
    into v_tokens
    from jsonb_to_recordset(p_moves)
      as m (key text, tenant text, shard int, kind text, seen numeric, generation int, value numeric, books boolean,
            uid uuid, period int, day int, type text, model text, agent text, conversation text)
   where books and kind = 'growth' and key = any (v_moved)
  having count(*) > 0;
  v_tokens := coalesce(v_tokens, 0);

  -- With its first counter a tenant is compared from now on: what was booked before has nothing to be compared with, and
  -- neither has what its other counters, met in the same run, counted before.
  with grown as (
    select tenant, coalesce(sum(value - coalesce(seen, 0)) filter (where kind = 'growth'), 0) as tokens,
           coalesce(sum(value) filter (where kind = 'growth' and seen is null), 0) as met
      from jsonb_to_recordset(p_moves) as m (key text, tenant text, kind text, seen numeric, value numeric)
     where key = any (v_moved)
     group by tenant),
  moved as (
    update worker.usage_legacy_tenants t
       set grown = t.grown + g.tokens, has_counters = true, met_in = coalesce(t.met_in, p_run),
           compared_direct = case when t.has_counters then t.compared_direct else t.direct end,
           compared_pending = case when t.has_counters then t.compared_pending else t.pending end,
           compared_grown = case when not t.has_counters then t.grown + g.tokens
                                 when t.met_in = p_run then t.compared_grown + g.met
                                 else t.compared_grown end
      from grown g
     where t.tenant = g.tenant)
  select coalesce(sum(tokens), 0) into v_grown from grown;

  with gap as (
    select * from jsonb_to_recordset(p_moves)
      as m (key text, tenant text, kind text, cause text, seen numeric, generation int, value numeric)
     where kind = 'gap' and key = any (v_moved)),
  listed as (
    insert into worker.usage_legacy_findings (run_id, kind, tenant, cause, tokens, evidence)
    select p_run, 'gap', tenant, cause, value - coalesce(seen, 0),
           jsonb_build_object('key', key, 'generation', coalesce(generation, 0), 'from', coalesce(seen, 0)::text,
             'to', value::text)
      from gap
     order by key
     limit worker.usage_legacy_findings_left(p_run, 'gap'))
  select count(*) into v_gaps from gap;

  with compared as (
    select * from jsonb_to_recordset(p_compared)
      as c (tenant text, grown numeric, direct numeric, pending numeric, was_grown numeric, was_direct numeric,
            was_pending numeric, apart numeric, cause text, drift numeric, drift_cause text, evidence jsonb)),
  settled as (
    update worker.usage_legacy_tenants t
       set compared_grown = c.grown, compared_direct = c.direct, compared_pending = c.pending, apart = c.apart,
           cause = c.cause, compared_at = now()
      from compared c
     where t.tenant = c.tenant and t.grown = c.grown and t.compared_grown = c.was_grown
       and t.compared_direct = c.was_direct and t.compared_pending = c.was_pending
    returning t.tenant, c.drift, c.drift_cause, c.evidence),
  listed as (
    insert into worker.usage_legacy_findings (run_id, kind, tenant, cause, tokens, evidence)
    select p_run, 'drift', tenant, drift_cause, drift, evidence
      from settled
     where drift is not null
     order by abs(drift) desc, tenant
     limit worker.usage_legacy_findings_left(p_run, 'drift'))
  select count(*) into v_drifts from settled where drift is not null;

  update worker.usage_legacy_runs
     set grown = grown + v_grown, counter_tokens = counter_tokens + v_tokens, resets = resets + v_gaps,
         drifts = drifts + v_drifts, updated_at = now()
   where run_id = p_run;
  return jsonb_build_object('moved', cardinality(v_moved), 'stale', jsonb_array_length(p_moves) - cardinality(v_moved),
    'tokens', v_tokens::text);
end $$;
revoke all on function worker.usage_legacy_move_counters from public, anon, authenticated;
grant execute on function worker.usage_legacy_move_counters to service_role;
