-- Claims several items of one kind for one process, in one transaction.
--   p_ids      at most 100
--   p_randoms  one for each
--   returns    an array of what work_claim says, in the order of p_ids
create or replace function worker.work_claim_many(p_ids uuid[], p_worker text, p_lease_ms int, p_running_max int,
  p_randoms float8[]) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  v_claims jsonb := '[]';
begin
  if coalesce(cardinality(p_ids), 0) not between 1 and 100 then
    raise exception 'work_argument_invalid: 1 to 100 items' using errcode = 'WK001';
  end if;
  perform worker.work_lock_all(p_ids);
  for n in 1 .. cardinality(p_ids) loop
    v_claims := v_claims || jsonb_build_array(
      worker.work_claim(p_ids[n], p_worker, p_lease_ms, p_running_max, p_randoms[n]));
  end loop;
  return v_claims;
end $$;
revoke all on function worker.work_claim_many from public, anon, authenticated;
grant execute on function worker.work_claim_many to service_role;
