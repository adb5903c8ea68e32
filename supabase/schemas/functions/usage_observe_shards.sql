-- Remembers, outside Redis, how far each log is. An observation only moves forward within its lineage. What an
-- observation proves to be lost is written down first.
--   p_observations  [{shard, inc, n, cum, count, anchor, ended}], at most 4096; elements without a lineage are skipped.
--                   ended: {inc, keptN, keptCum, keptCount}, an observed lineage that ended, and how much of it is
--                   still in Redis; absent = none
--   returns         observations written
--   raises          UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_observe_shards(p_observations jsonb) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_written int;
  v_ended jsonb;
begin
  if jsonb_array_length(p_observations) > 4096 then
    raise exception 'usage_argument_invalid: more than 4096 observations' using errcode = 'UL001';
  end if;
  select jsonb_agg(e -> 'ended' || jsonb_build_object('shard', e -> 'shard')) into v_ended
    from jsonb_array_elements(p_observations) e
   where jsonb_typeof(e -> 'ended') = 'object';
  if v_ended is not null then
    perform worker.usage_open_observed_gaps(v_ended);
  end if;
  insert into worker.usage_observations as o (shard, inc, n, cum, count, anchor)
  select distinct on (shard, inc) shard, inc, n, cum, count, nullif(anchor, '')
    from jsonb_to_recordset(p_observations)
      as e (shard int, inc text, n bigint, cum numeric, count bigint, anchor text)
   where inc <> ''
   order by shard, inc, n desc
  on conflict on constraint usage_observations_pkey do update
    set n = excluded.n, cum = excluded.cum, count = excluded.count, anchor = excluded.anchor, observed_at = now()
    where excluded.n > o.n;
  get diagnostics v_written = row_count;
  return v_written;
end $$;
revoke all on function worker.usage_observe_shards from public, anon, authenticated;
grant execute on function worker.usage_observe_shards to service_role;
