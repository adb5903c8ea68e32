-- Decides that an entry set aside is never booked. Says who decided and why; a second decision changes nothing.
--   returns  {status: discarded} | {status: resolved, resolution} | {status: unknown}
create or replace function worker.usage_discard_quarantined(p_id bigint, p_who text, p_reason text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_resolution text;
begin
  update worker.usage_quarantine
     set resolved_at = now(), resolution = 'discarded', resolved_by = p_who, resolved_reason = p_reason
   where id = p_id and resolved_at is null;
  if found then
    return jsonb_build_object('status', 'discarded');
  end if;
  select resolution into v_resolution from worker.usage_quarantine where id = p_id;
  if not found then
    return jsonb_build_object('status', 'unknown');
  end if;
  return jsonb_build_object('status', 'resolved', 'resolution', v_resolution);
end $$;
revoke all on function worker.usage_discard_quarantined from public, anon, authenticated;
grant execute on function worker.usage_discard_quarantined to service_role;
