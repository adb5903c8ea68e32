-- Redis is not the log the cursor points into. Ends the lineage, writes down what the observer knows to be lost, and
-- points the cursor at the start of the new lineage: everything Redis still holds is read again, and event ids absorb
-- the overlap. Compare-and-swap on the lineage.
--   p_cause                            first | lineage_changed | redis_flushed | redis_rewound | anchor_mismatch
--   p_surviving_n, p_surviving_cum     how far the old lineage survived in Redis; 0, 0 after a flush
--   returns  {status: ok | stale, inc, n}
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_fork_shard(p_shard int, p_old_inc text, p_new_inc text, p_cause text,
  p_surviving_n bigint default 0, p_surviving_cum numeric default 0) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  s worker.usage_shards;
  v_safe_n bigint;
  v_safe_cum numeric;
  v_safe_count bigint;
begin
  if coalesce(p_new_inc, '') = '' or p_new_inc = p_old_inc then
    raise exception 'usage_argument_invalid: p_new_inc must be another lineage' using errcode = 'UL001';
  end if;
  select * into s from worker.usage_shards where shard = p_shard for update;
  if s.inc is distinct from p_old_inc then
    return jsonb_build_object('status', 'stale', 'inc', coalesce(s.inc, ''), 'n', coalesce(s.n, 0)::text);
  end if;
  -- A lineage of which nothing was applied yet is known as far as it was when it was adopted.
  if s.cum is null then
    s.n := s.base_n;
    s.cum := s.base_cum;
    s.count := null;
  end if;
  if s.inc <> '' then
    insert into worker.usage_lineages (shard, fork, inc, last_n, last_cum, last_count, cause)
    values (p_shard, s.forks, s.inc, s.n, s.cum, s.count, p_cause);
  end if;

  -- Safe is what was applied or survived, whichever is further. When nobody read this shard before, every log but the
  -- new one is lost from its start.
  v_safe_n := greatest(s.n, p_surviving_n);
  v_safe_cum := case when s.n >= p_surviving_n then s.cum else p_surviving_cum end;
  v_safe_count := case when v_safe_n = 0 then 0 when s.n >= p_surviving_n then s.count end;
  insert into worker.usage_gaps as g (shard, inc, from_n, to_n, tokens_lost, entries_lost, cause)
  select p_shard, o.inc, v_safe_n + 1, o.n, o.cum - v_safe_cum, o.count - v_safe_count, 'redis_rewind'
    from worker.usage_observations o
   where o.shard = p_shard and o.inc <> p_new_inc and (o.inc = s.inc or s.inc = '')
     and o.n > v_safe_n and (o.cum <> v_safe_cum or o.count <> v_safe_count)
  on conflict (shard, inc, from_n) where cause = 'redis_rewind' do update
    set to_n = excluded.to_n, tokens_lost = excluded.tokens_lost, entries_lost = excluded.entries_lost,
        updated_at = now()
    where excluded.to_n > g.to_n;
  delete from worker.usage_observations
   where shard = p_shard and inc <> p_new_inc and (inc = s.inc or s.inc = '');

  update worker.usage_shards
     set inc = p_new_inc, n = 0, cum = null, count = null, anchor = null, trimmed_n = 0, forks = forks + 1,
         base_n = least(s.n, p_surviving_n),
         base_cum = case when s.n <= p_surviving_n then s.cum else p_surviving_cum end,
         updated_at = now()
   where shard = p_shard;
  return jsonb_build_object('status', 'ok', 'inc', p_new_inc, 'n', '0');
end $$;
revoke all on function worker.usage_fork_shard from public, anon, authenticated;
grant execute on function worker.usage_fork_shard to service_role;
