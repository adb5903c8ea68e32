-- Drop-in for producers that book their uses themselves: the name and parameters they have always called. Books one use
-- of the type llm at once, see worker.usage_legacy_book_direct. Returns nothing. Execute for service_role only.
create or replace function public.increment_token_usage(p_tenant_id text, p_tokens bigint) returns void
language sql volatile security invoker set search_path = '' as $$
  select worker.usage_legacy_book_direct(p_tenant_id, p_tokens, 'llm')
$$;
revoke all on function public.increment_token_usage(text, bigint) from public, anon, authenticated;
grant execute on function public.increment_token_usage(text, bigint) to service_role;
