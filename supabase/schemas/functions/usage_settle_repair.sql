-- Part of usage_consolidate_shard and usage_confirm_repair: what became of a planned correction. Repeating it changes
-- nothing. What was not applied is found again by the next comparison; what a person approved stays approved.
create or replace function worker.usage_settle_repair(p_repair uuid, p_is_applied boolean) returns void
language plpgsql volatile security invoker set search_path = '' as $$
begin
  update worker.usage_repairs
     set status = case when p_is_applied then 'applied' else 'superseded' end, settled_at = now()
   where repair_id = p_repair and status = 'planned';
  if not found then
    return;
  end if;
  if p_is_applied then
    update worker.usage_drifts set state = 'repaired', repaired_at = now()
     where repair_id = p_repair and state in ('planned', 'approved');
  else
    update worker.usage_drifts
       set state = case when state = 'planned' then 'superseded' else state end, repair_id = null
     where repair_id = p_repair and state in ('planned', 'approved');
  end if;
end $$;
revoke all on function worker.usage_settle_repair from public, anon, authenticated;
grant execute on function worker.usage_settle_repair to service_role;
