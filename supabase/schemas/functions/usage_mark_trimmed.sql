-- Remembers that Redis forgot the entries before p_n. Safe to repeat; never goes back.
--   returns  {status: ok | stale}; stale = the lineage is another one by now
create or replace function worker.usage_mark_trimmed(p_shard int, p_inc text, p_n bigint) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.usage_shards
     set trimmed_n = greatest(trimmed_n, least(p_n, n)), updated_at = now()
   where shard = p_shard and inc = p_inc;
  return jsonb_build_object('status', case when found then 'ok' else 'stale' end);
end $$;
revoke all on function worker.usage_mark_trimmed from public, anon, authenticated;
grant execute on function worker.usage_mark_trimmed to service_role;
