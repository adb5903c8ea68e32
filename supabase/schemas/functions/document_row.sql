-- A document as readers get it.
create or replace function worker.document_row(d worker.documents) returns jsonb
language sql stable security invoker set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('id', d.id, 'workspaceId', d.workspace_id, 'name', d.name, 'mime', d.mime,
    'storage', d.storage, 'container', d.container, 'path', d.path, 'priority', d.priority, 'state', d.state,
    'stage', d.stage, 'progress', d.progress, 'isSearchable', d.active_version is not null, 'version', d.active_version,
    'workItem', d.work_item, 'attempts', d.claims, 'failures', d.failures, 'bytes', d.bytes, 'sha256', d.content_sha256,
    'type', d.type, 'language', d.language, 'pages', d.page_count, 'chunks', d.chunk_count, 'warnings', d.warnings,
    'errorCode', d.error_code, 'errorText', d.error_text, 'createdAt', d.created_at, 'requestedAt', d.requested_at,
    'startedAt', d.started_at, 'finishedAt', d.finished_at, 'updatedAt', d.updated_at) $$;
revoke all on function worker.document_row from public, anon, authenticated;
grant execute on function worker.document_row to service_role;
