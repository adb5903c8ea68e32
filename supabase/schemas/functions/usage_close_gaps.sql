-- Part of usage_act_on_drifts: entries that vanished were booked after all. Fills the gaps of the shard from the oldest
-- on, what vanished before what was rewound; their entries count as recovered when nothing is missing any more.
--   p_tokens  what was booked; negative when credits had vanished
create or replace function worker.usage_close_gaps(p_shard int, p_tokens numeric) returns void
language sql volatile security invoker set search_path = '' as $$
  with open as (
    select id, cause, tokens_lost - recovered as missing
      from worker.usage_gaps
     where shard = p_shard and (tokens_lost <> recovered or entries_lost <> entries_recovered)),
  summed as (
    select *, sum(missing) filter (where cause = 'missing_entries') over () as vanished, sum(missing) over () as total,
           coalesce(sum(abs(missing)) filter (where sign(missing) = sign(p_tokens))
             over (order by cause, id rows between unbounded preceding and 1 preceding), 0) as before
      from open),
  filled as (
    select id, case when vanished = p_tokens then case cause when 'missing_entries' then missing else 0 end
                    when total = p_tokens then missing
                    when sign(missing) <> sign(p_tokens) then 0
                    else sign(p_tokens) * greatest(0, least(abs(missing), abs(p_tokens) - before)) end as tokens
      from summed)
  update worker.usage_gaps g
     set recovered = g.recovered + f.tokens,
         entries_recovered = case when g.recovered + f.tokens = g.tokens_lost then coalesce(g.entries_lost, 0)
                                  else g.entries_recovered end,
         updated_at = now()
    from filled f
   where g.id = f.id
$$;
revoke all on function worker.usage_close_gaps from public, anon, authenticated;
grant execute on function worker.usage_close_gaps to service_role;
