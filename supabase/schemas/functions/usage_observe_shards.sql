-- Remembers, outside Redis, how far each log was. An observation only moves forward within its lineage.
--   p_observations  [{shard, inc, n, cum, count}], at most 4096; elements without a lineage are skipped
--   returns         rows written
--   raises          UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_observe_shards(p_observations jsonb) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_written int;
begin
  if jsonb_array_length(p_observations) > 4096 then
    raise exception 'usage_argument_invalid: more than 4096 observations' using errcode = 'UL001';
  end if;
  insert into worker.usage_observations as o (shard, inc, n, cum, count)
  select distinct on (shard, inc) shard, inc, n, cum, count
    from jsonb_to_recordset(p_observations) as e (shard int, inc text, n bigint, cum numeric, count bigint)
   where inc <> ''
   order by shard, inc, n desc
  on conflict on constraint usage_observations_pkey do update
    set n = excluded.n, cum = excluded.cum, count = excluded.count, observed_at = now()
    where excluded.n > o.n;
  get diagnostics v_written = row_count;
  return v_written;
end $$;
revoke all on function worker.usage_observe_shards from public, anon, authenticated;
grant execute on function worker.usage_observe_shards to service_role;
