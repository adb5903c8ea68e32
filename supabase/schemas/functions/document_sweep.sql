-- Documents that wait for a worker but that no work item may know: their enqueueing failed, or their item ended without
-- them. The caller enqueues them; where an item is alive that changes nothing. Each is answered at most once in
-- p_stale_seconds.
--   p_stale_seconds  how long nothing happened: since the last change, or since the lease was over
--   p_limit          1 .. 500
--   returns  [{id, workspaceId, priority}], oldest first
create or replace function worker.document_sweep(p_stale_seconds int, p_limit int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_before constant timestamptz := now() - make_interval(secs => p_stale_seconds);
  v_rows jsonb;
begin
  with due as (
    select id from worker.documents
     where state in ('queued', 'processing', 'retrying') and updated_at < v_before
       and (lease_until is null or lease_until < v_before)
     order by updated_at limit least(greatest(p_limit, 1), 500) for update skip locked),
  swept as (
    update worker.documents d set updated_at = now() from due where d.id = due.id
    returning d.id, d.workspace_id, d.priority, d.requested_at)
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'workspaceId', workspace_id, 'priority', priority)
      order by requested_at), '[]') into v_rows from swept;
  return v_rows;
end $$;
revoke all on function worker.document_sweep from public, anon, authenticated;
grant execute on function worker.document_sweep to service_role;
