-- Begins an export or goes on with one. Whoever worked on it before may not write any more. What is in it was decided
-- when it began: its format, and which ledger rows were booked in the week.
--   returns  {status: open, attempt, format, ledgerAfter, ledgerTo, files: [{name, path, rows, bytes, contentBytes,
--            sha256}]} | {status: finished}; numbers of rows and bytes as text
create or replace function worker.export_open(p_week date, p_format text) returns jsonb
language plpgsql volatile security invoker set search_path = '' as $$
declare
  e worker.exports;
begin
  insert into worker.exports as x (week, format, ledger_after, ledger_to)
  select p_week, p_format, coalesce(min(id), 1) - 1, coalesce(max(id), 0)
    from worker.usage_ledger
   where booked_at >= p_week::timestamp at time zone 'UTC'
     and booked_at < (p_week + 7)::timestamp at time zone 'UTC'
  on conflict on constraint exports_pkey do update set attempt = x.attempt + 1 where x.state = 'running'
  returning * into e;
  if not found then
    return jsonb_build_object('status', 'finished');
  end if;
  return jsonb_build_object('status', 'open', 'attempt', e.attempt, 'format', e.format,
    'ledgerAfter', e.ledger_after::text, 'ledgerTo', e.ledger_to::text,
    'files', coalesce((
      select jsonb_agg(jsonb_build_object('name', name, 'path', path, 'rows', rows::text, 'bytes', bytes::text,
               'contentBytes', content_bytes::text, 'sha256', sha256) order by name)
        from worker.export_files where week = p_week), '[]'));
end $$;
revoke all on function worker.export_open from public, anon, authenticated;
grant execute on function worker.export_open to service_role;
