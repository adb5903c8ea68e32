-- Part of usage_consolidate_shard: what its answer says about the differences as a whole.
create or replace function worker.usage_sum_drifts(p_found worker.usage_drift_finding[]) returns jsonb
language sql immutable security invoker set search_path = '' as $$
  select jsonb_build_object('status', 'compared', 'causes', coalesce(jsonb_object_agg(cause, number), '{}'),
           'tokens', coalesce(sum(tokens), 0)::text, 'held', coalesce(sum(held), 0), 'waiting', coalesce(sum(waiting), 0),
           'booked', '0', 'more', false,
           'repairs', jsonb_build_object('tenant', jsonb '[]', 'period', jsonb '[]', 'delta', jsonb '[]'))
    from (select cause, count(*) as number, sum(abs(drift)) as tokens,
                 count(*) filter (where state = 'hold_for_approval') as held,
                 count(*) filter (where state = 'wait_for_quarantine') as waiting
            from unnest(p_found)
           group by cause) causes
$$;
revoke all on function worker.usage_sum_drifts from public, anon, authenticated;
grant execute on function worker.usage_sum_drifts to service_role;
