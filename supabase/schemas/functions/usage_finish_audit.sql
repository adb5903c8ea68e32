-- Ends an audit: all shards were compared, or it is given up with an error code. Repeating it changes nothing.
--   returns  {status: succeeded | failed | running, differences, causes: {cause: {findings, tokens, largest}}}
--            running = shards are left; causes as text amounts, largest = the greatest |tokens| of one finding
create or replace function worker.usage_finish_audit(p_audit uuid, p_error text default null) returns jsonb
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '20s' as $$
declare
  a worker.usage_audits;
begin
  select * into a from worker.usage_audits where audit_id = p_audit for update;
  if a.status = 'running' and (p_error is not null or a.next_shard = 65536) then
    update worker.usage_audits
       set status = case when p_error is null then 'succeeded' else 'failed' end, error_code = p_error,
           finished_at = clock_timestamp(), updated_at = now(),
           period_state = coalesce((select state from worker.usage_periods where period = a.period), 'open'),
           differences = (select count(*) from worker.usage_audit_findings where audit_id = p_audit and is_difference),
           causes = (select coalesce(jsonb_object_agg(cause, jsonb_build_object('findings', findings,
                              'tokens', tokens::text, 'largest', largest::text)), '{}')
                       from (select cause, count(*) as findings, sum(tokens) as tokens, max(abs(tokens)) as largest
                               from worker.usage_audit_findings where audit_id = p_audit group by cause) c)
     where audit_id = p_audit
    returning * into a;
  end if;
  return jsonb_build_object('status', coalesce(a.status, 'failed'), 'differences', coalesce(a.differences, 0),
    'causes', coalesce(a.causes, '{}'));
end $$;
revoke all on function worker.usage_finish_audit from public, anon, authenticated;
grant execute on function worker.usage_finish_audit to service_role;
