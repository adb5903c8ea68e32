-- The same as public.increment_token_usage for uses of the type embedding.
create or replace function public.increment_embedding_token_usage(p_tenant_id text, p_tokens bigint) returns void
language sql volatile security invoker set search_path = '' as $$
  select worker.usage_legacy_book_direct(p_tenant_id, p_tokens, 'embedding')
$$;
revoke all on function public.increment_embedding_token_usage(text, bigint) from public, anon, authenticated;
grant execute on function public.increment_embedding_token_usage(text, bigint) to service_role;
