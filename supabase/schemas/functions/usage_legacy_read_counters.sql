-- What is remembered of some counters.
--   p_keys   at most 5000
--   returns  {based, counters: [{key, seen, generation}]}; based = every counter of the scope was seen once, so an
--            unknown one is new; keys nobody remembers under this scope are left out; seen as text
create or replace function worker.usage_legacy_read_counters(p_scope text, p_keys text[]) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select jsonb_build_object(
      'based', exists (select from worker.usage_legacy_scopes where scope = p_scope),
      'counters', coalesce(jsonb_agg(jsonb_build_object('key', key, 'seen', seen::text, 'generation', generation)), '[]'))
    from worker.usage_legacy_counters
   where key = any (p_keys[1:5000]) and scope = p_scope
$$;
revoke all on function worker.usage_legacy_read_counters from public, anon, authenticated;
grant execute on function worker.usage_legacy_read_counters to service_role;
