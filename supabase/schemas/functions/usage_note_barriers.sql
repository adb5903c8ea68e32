-- Part of usage_close_period: notes how far each log is, once, and which cursors have passed that. A shard whose log
-- became another one meanwhile gets a new barrier: everything Redis still holds is read again. What was passed once
-- stays passed.
--   p_heads  [{shard, inc, n}], read from Redis before this call; inc '' = the log is empty
create or replace function worker.usage_note_barriers(p_period int, p_heads jsonb, p_now timestamptz) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  insert into worker.usage_period_shards as b (period, shard, inc, n, noted_at)
  select p_period, h.shard, h.inc, h.n, p_now
    from jsonb_to_recordset(p_heads) as h (shard int, inc text, n bigint)
   order by h.shard
  on conflict on constraint usage_period_shards_pkey do update
    set inc = excluded.inc, n = excluded.n, noted_at = excluded.noted_at
    where b.passed_at is null and b.inc is distinct from excluded.inc;
  update worker.usage_period_shards b
     set passed_at = p_now
   where b.period = p_period and b.passed_at is null and b.inc is not null
     and case when b.inc = '' -- nothing in Redis; a cursor that had a log first has to follow it
              then not exists (select from worker.usage_shards s where s.shard = b.shard and s.inc <> '')
              else exists (select from worker.usage_shards s where s.shard = b.shard and s.inc = b.inc and s.n >= b.n) end;
end $$;
revoke all on function worker.usage_note_barriers from public, anon, authenticated;
grant execute on function worker.usage_note_barriers to service_role;
