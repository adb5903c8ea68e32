-- Adds to the counters of a kind, in one of 16 rows, so that workers do not wait for each other.
--   p_what  name of the counter
create or replace function worker.work_count(p_kind text, p_what text, p_count bigint default 1) returns void
language sql volatile security invoker set search_path = '' as $$
  insert into worker.work_counters as c (kind, slot, accepted, succeeded, dead, cancelled, revived, crashes, stale_writes)
  select p_kind, pg_backend_pid() % 16, n * (p_what = 'accepted')::int, n * (p_what = 'succeeded')::int,
         n * (p_what = 'dead')::int, n * (p_what = 'cancelled')::int, n * (p_what = 'revived')::int,
         n * (p_what = 'crashes')::int, n * (p_what = 'stale_writes')::int
    from (select p_count as n) as given
   where p_count <> 0
  on conflict on constraint work_counters_pkey do update
     set accepted = c.accepted + excluded.accepted, succeeded = c.succeeded + excluded.succeeded,
         dead = c.dead + excluded.dead, cancelled = c.cancelled + excluded.cancelled,
         revived = c.revived + excluded.revived, crashes = c.crashes + excluded.crashes,
         stale_writes = c.stale_writes + excluded.stale_writes
$$;
revoke all on function worker.work_count from public, anon, authenticated;
grant execute on function worker.work_count to service_role;
