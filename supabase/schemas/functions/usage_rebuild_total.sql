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
