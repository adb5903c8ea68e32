-- Forgets documents that were deleted before an instant.
--   p_limit  1 .. 1000
--   returns  how many
create or replace function worker.document_prune(p_before timestamptz, p_limit int) returns int
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_pruned int;
begin
  delete from worker.documents where id in (
    select id from worker.documents where state = 'deleted' and updated_at < p_before
     order by updated_at limit least(greatest(p_limit, 1), 1000) for update skip locked);
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
revoke all on function worker.document_prune from public, anon, authenticated;
grant execute on function worker.document_prune to service_role;
