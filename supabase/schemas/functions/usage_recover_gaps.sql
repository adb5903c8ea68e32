-- Part of usage_apply_batch: replayed records close the gap of the lineage they were lost with. Only what this batch
-- really inserted counts.
--   p_replay  [{uid, day: days since 1970-01-01, oi: lost lineage}]
create or replace function worker.usage_recover_gaps(p_shard int, p_batch bigint, p_replay jsonb) returns void
language sql volatile security invoker
set search_path = '' set enable_hashjoin = off set enable_mergejoin = off as $$ -- the keys of a batch, not whole days
  with replayed as (
    select distinct on (uid, day) uid, date '1970-01-01' + day as day, oi
      from jsonb_to_recordset(p_replay) as r (uid uuid, day int, oi text)),
  recovered as (
    select r.oi, sum(e.tokens) as tokens, count(*) as entries
      from replayed r
      join worker.usage_events e on e.day = r.day and e.uid = r.uid
     where e.batch_id = p_batch
     group by r.oi)
  update worker.usage_gaps g
     set recovered = g.recovered + r.tokens, entries_recovered = g.entries_recovered + r.entries, updated_at = now()
    from recovered r
   where g.id = (
     select id from worker.usage_gaps
      where shard = p_shard and inc = r.oi and cause = 'redis_rewind'
      order by to_n desc, id
      limit 1)
$$;
revoke all on function worker.usage_recover_gaps from public, anon, authenticated;
grant execute on function worker.usage_recover_gaps to service_role;
