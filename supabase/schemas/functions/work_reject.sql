-- Books a message that is no item and cannot become one: a dead letter of the kind `unknown`, or of the kind it names.
--   p_source    hash of the message; a second delivery changes nothing
--   p_code      why
--   p_evidence  object: the queue and the start of the message
--   returns     {id, isDuplicate}
create or replace function worker.work_reject(p_source text, p_kind text, p_version int, p_tenant text, p_priority text,
  p_code text, p_error text, p_evidence jsonb) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_id uuid;
begin
  insert into worker.work_items (kind, version, tenant, priority, payload, source, state, due_at, max_attempts, code,
    error, evidence, requested_by, finished_at)
  values (p_kind, p_version, p_tenant, p_priority, '{}', p_source, 'dead', now(), 1, p_code, left(p_error, 500),
          p_evidence, 'message', clock_timestamp())
  on conflict (source) where source is not null do nothing
  returning id into v_id;
  if v_id is null then
    select id into v_id from worker.work_items where source = p_source;
    return jsonb_build_object('id', v_id, 'isDuplicate', true);
  end if;
  perform worker.work_count(p_kind, 'accepted');
  perform worker.work_count(p_kind, 'dead');
  return jsonb_build_object('id', v_id, 'isDuplicate', false);
end $$;
revoke all on function worker.work_reject from public, anon, authenticated;
grant execute on function worker.work_reject to service_role;
