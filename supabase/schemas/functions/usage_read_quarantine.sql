-- Entries set aside, newest first.
--   p_tenant, p_error  only those; null = all
--   p_open             true = unresolved, false = resolved, null = both
--   p_before           id of the last row of the page before; null = from the newest
--   returns  {rows: [{id, shard, n, tenant, period, tokens, error, raw, detectedAt, resolvedAt, resolution, resolvedBy,
--            reason}], next}; amounts and ids as text, next = p_before of the following page or null
create or replace function worker.usage_read_quarantine(p_tenant text default null, p_error text default null,
  p_open boolean default true, p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.usage_quarantine
     where (p_tenant is null or tenant = p_tenant) and (p_error is null or error = p_error)
       and (p_open is null or (resolved_at is null) = p_open) and (p_before is null or id < p_before)
     order by id desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object(
      'rows', coalesce(jsonb_agg(jsonb_build_object('id', id::text, 'shard', shard, 'n', n::text, 'tenant', tenant,
        'period', period, 'tokens', tokens::text, 'error', error, 'raw', raw, 'detectedAt', detected_at,
        'resolvedAt', resolved_at, 'resolution', resolution, 'resolvedBy', resolved_by, 'reason', resolved_reason)
        order by id desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(id)::text end)
    from page
$$;
revoke all on function worker.usage_read_quarantine from public, anon, authenticated;
grant execute on function worker.usage_read_quarantine to service_role;
