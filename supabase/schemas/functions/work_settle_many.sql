-- Ends several claims of one kind, in one transaction.
--   p_settlements  at most 100 of {id, fence, outcome, code, error, result, evidence, delayMs, random, hasSettle}, as the
--                  parameters of work_settle
--   returns        an array of what work_settle says, in the same order
create or replace function worker.work_settle_many(p_settlements jsonb, p_running_max int) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_settled jsonb := '[]';
  s jsonb;
begin
  if jsonb_typeof(p_settlements) is distinct from 'array' or jsonb_array_length(p_settlements) not between 1 and 100 then
    raise exception 'work_argument_invalid: 1 to 100 settlements' using errcode = 'WK001';
  end if;
  perform worker.work_lock_all(array (select (value ->> 'id')::uuid from jsonb_array_elements(p_settlements)));
  for s in select value from jsonb_array_elements(p_settlements) with ordinality order by ordinality loop
    v_settled := v_settled || jsonb_build_array(worker.work_settle((s ->> 'id')::uuid, (s ->> 'fence')::bigint,
      s ->> 'outcome', p_running_max, s ->> 'code', s ->> 'error', nullif(s -> 'result', 'null'),
      nullif(s -> 'evidence', 'null'), coalesce((s ->> 'delayMs')::bigint, 0), coalesce((s ->> 'random')::float8, 0),
      coalesce((s ->> 'hasSettle')::boolean, false)));
  end loop;
  return v_settled;
end $$;
revoke all on function worker.work_settle_many from public, anon, authenticated;
grant execute on function worker.work_settle_many to service_role;
