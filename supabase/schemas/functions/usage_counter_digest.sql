-- Part of usage_match_shards: what the counters of a shard and month have to be, as one hash that the worker
-- computes of the counters in the same way: MD5 of the lines `<tokens> <tenant>`, by tenant, without those that are 0.
create or replace function worker.usage_counter_digest(p_shard int, p_period int) returns text
language plpgsql stable security invoker
set search_path = '' set enable_seqscan = off set enable_sort = off as $$ -- the index has the order
declare
  v_lines text;
begin
  if worker.usage_has_moved(array[p_period]) then
    select string_agg(concat(used, ' ', tenant), e'\n' order by tenant collate "C") into v_lines
      from worker.usage_used_tokens(p_shard, array[p_period])
     where used <> 0;
  else
    select string_agg(concat(tokens, ' ', tenant), e'\n') into v_lines
      from (select tenant, tokens - legacy as tokens from worker.usage_totals
             where shard = p_shard and period = p_period and tokens <> legacy
             order by tenant) used;
  end if;
  return md5(coalesce(v_lines, ''));
end $$;
revoke all on function worker.usage_counter_digest from public, anon, authenticated;
grant execute on function worker.usage_counter_digest to service_role;
