-- Items, the newest first.
--   p_state    queued | running | retrying | succeeded | dead | cancelled; null = all. The same for the other filters
--   p_search   part of the error
--   p_since, p_until  accepted in [since, until)
--   p_before   seq of the last row of the page before; null = from the newest
--   p_limit    1 .. 200
--   returns    {rows: [work_row], next}; next = p_before of the following page or null
create or replace function worker.work_list(p_state text default null, p_kind text default null, p_tenant text default null,
  p_code text default null, p_search text default null, p_since timestamptz default null, p_until timestamptz default null,
  p_before bigint default null, p_limit int default 50) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  with page as (
    select * from worker.work_items i
     where (p_state is null or state = p_state) and (p_kind is null or kind = p_kind)
       and (p_tenant is null or tenant = p_tenant) and (p_code is null or code = p_code)
       and (p_search is null or position(lower(p_search) in lower(error)) > 0)
       and (p_since is null or created_at >= p_since) and (p_until is null or created_at < p_until)
       and (p_before is null or seq < p_before)
     order by seq desc
     limit least(greatest(p_limit, 1), 200))
  select jsonb_build_object('rows', coalesce(jsonb_agg(worker.work_row(page) order by seq desc), '[]'),
      'next', case when count(*) = least(greatest(p_limit, 1), 200) then min(seq)::text end)
    from page
$$;
revoke all on function worker.work_list from public, anon, authenticated;
grant execute on function worker.work_list to service_role;
