-- Starts an attempt. One worker wins; a claim whose lease is over, or of the same work item with a lower fence, is taken
-- over, and its worker can write no more. Repeating a claim changes nothing but its lease.
--   p_item, p_fence   the work item and its fence: the name under which everything is written
--   p_lease_seconds   1 .. 3600; touching and staging renew it
--   returns  {status: claimed, version, storage, container, path, name, mime, sha256, pipelineKey, isForced, absences,
--            errorCode, hasActive}; version = what document_put_chunks stages |
--            {status: busy} another one works on it | {status: stale} a later claim of the same item exists |
--            {status: cancelled} | {status: gone} it was deleted | {status: mismatch} it is another workspace's: nothing
--            was touched | {status: unknown}
create or replace function worker.document_claim(p_id uuid, p_workspace uuid, p_item uuid, p_fence bigint,
  p_lease_seconds int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  d worker.documents;
  v_lease constant timestamptz := clock_timestamp() + make_interval(secs => least(greatest(p_lease_seconds, 1), 3600));
  v_status text;
begin
  select * into d from worker.documents where id = p_id for update;
  v_status := case
    when not found then 'unknown'
    when d.workspace_id is distinct from p_workspace then 'mismatch'
    when d.state = 'deleted' then 'gone'
    when d.state = 'cancelled' then 'cancelled'
    when d.claim_item = p_item and d.claim_fence > p_fence then 'stale'
    when d.claim_item <> p_item and d.lease_until > clock_timestamp() then 'busy' else 'claimed' end;
  if v_status <> 'claimed' then
    return jsonb_build_object('status', v_status);
  end if;
  update worker.documents
     set state = 'processing', stage = case when claim_item = p_item and claim_fence = p_fence then stage else 'fetch' end,
         claims = claims + case when claim_item = p_item and claim_fence = p_fence then 0 else 1 end,
         progress = '{}', work_item = p_item, claim_item = p_item, claim_fence = p_fence, lease_until = v_lease,
         started_at = now(), updated_at = now()
   where id = p_id
  returning * into d;
  -- Of the attempts that died, the last one is kept: its vectors may be taken over.
  delete from worker.document_chunks c
   where c.document_id = p_id and c.version not in (coalesce(d.active_version, 0), d.claims, d.claims - 1);
  return jsonb_build_object('status', v_status, 'version', d.claims, 'storage', d.storage, 'container', d.container,
    'path', d.path, 'name', d.name, 'mime', d.mime, 'sha256', d.content_sha256, 'pipelineKey', d.pipeline_key,
    'isForced', d.is_forced, 'absences', d.absences, 'errorCode', d.error_code, 'hasActive', d.active_version is not null);
end $$;
revoke all on function worker.document_claim from public, anon, authenticated;
grant execute on function worker.document_claim to service_role;
