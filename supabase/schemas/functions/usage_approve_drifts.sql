-- A person approves, as proposed, every difference of one cause that a run found or saw last and that is still held.
--   p_cause  null = every cause
--   returns  {approved, shards}: how many, and where
--   raises   UL001 usage_argument_invalid (permanent)
create or replace function worker.usage_approve_drifts(p_run uuid, p_cause text, p_who text, p_reason text)
returns jsonb language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_answer jsonb;
begin
  if coalesce(p_who, '') = '' or coalesce(p_reason, '') = '' then
    raise exception 'usage_argument_invalid: a decision is made by somebody, for a reason' using errcode = 'UL001';
  end if;
  perform from worker.usage_shards
   where shard in (select shard from worker.usage_drifts
                    where state = 'hold_for_approval' and (run_id = p_run or last_run_id = p_run))
   order by shard for update;
  with approved as (
    update worker.usage_drifts
       set state = 'approved',
           decisions = decisions || jsonb_build_object('decision', 'approved', 'repair', repair, 'who', p_who,
             'why', p_reason, 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
     where state = 'hold_for_approval' and (run_id = p_run or last_run_id = p_run)
       and (p_cause is null or cause = p_cause)
    returning shard)
  select jsonb_build_object('approved', count(*), 'shards', coalesce(jsonb_agg(distinct shard), '[]'))
    into v_answer from approved;
  return v_answer;
end $$;
revoke all on function worker.usage_approve_drifts from public, anon, authenticated;
grant execute on function worker.usage_approve_drifts to service_role;
