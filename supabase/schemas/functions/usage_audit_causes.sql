-- Part of usage_audit_differences: why the numbers of one tenant differ. Pure. Three witnesses: the total, the ledger and
-- the events; who stands alone is wrong. Tokens say how far what is booked stands above the evidence.
--   p_total           total minus ledger
--   p_ledger          how far the ledger is known to be wrong, because its batches say so
--   p_missing         booked uses whose events are gone; p_twice: the same, of a part of the log that was applied twice
--   p_extra           events that were never booked; p_changed: events whose amount is another one
--   p_open            ledger minus events where no batch says which of them is wrong
--   p_.._events       the same in numbers of uses
--   returns  side: ledger | events | both = whose batches are the evidence, null = the total's
create or replace function worker.usage_audit_causes(p_total numeric, p_total_events bigint, p_ledger numeric,
  p_ledger_events bigint, p_missing numeric, p_missing_events bigint, p_twice numeric, p_twice_events bigint,
  p_extra numeric, p_extra_events bigint, p_changed numeric, p_open numeric, p_open_events bigint)
returns table (cause text, tokens numeric, events bigint, side text)
language plpgsql immutable security invoker set search_path = '' as $$
declare
  v_is_open boolean := p_open <> 0 or p_open_events <> 0;
  v_off numeric := p_total + p_ledger;               -- total minus what the ledger should say, as far as that is known
  v_off_events bigint := p_total_events + p_ledger_events;
begin
  if v_is_open and ((v_off = -p_open and v_off_events = -p_open_events)
                    or (p_open_events <> 0 and v_off_events = -p_open_events)) then
    p_ledger := p_ledger + p_open;                   -- the total stands with the events
    p_ledger_events := p_ledger_events + p_open_events;
  elsif v_is_open and (v_off = 0 or p_open_events <> 0) and v_off_events = 0 then
    if p_open_events > 0 then                        -- the total stands with the ledger
      p_missing := p_missing + p_open;
      p_missing_events := p_missing_events + p_open_events;
    elsif p_open_events < 0 then
      p_extra := p_extra - p_open;
      p_extra_events := p_extra_events - p_open_events;
    else
      p_changed := p_changed - p_open;
    end if;
  elsif v_is_open then
    return query values ('unexplained', p_open, p_open_events, 'both');
  end if;

  if p_ledger <> 0 or p_ledger_events <> 0 then
    if p_ledger_events <> 0 and (p_total_events = 0 or p_total = 0) then -- the total went along
      return query values (case when p_ledger_events > 0 then 'double_applied' else 'events_not_booked' end, p_ledger,
        p_ledger_events, 'ledger');
      p_total_events := 0;
    else
      return query values ('ledger_edited', p_ledger, p_ledger_events, 'ledger');
      p_total := p_total + p_ledger;
      p_total_events := p_total_events + p_ledger_events;
    end if;
  end if;
  if p_total <> 0 or p_total_events <> 0 then
    return query values ('total_edited_outside_ledger', p_total, p_total_events, null::text);
  end if;
  return query
  select * from (values ('double_applied', p_twice, p_twice_events, 'events'),
                        ('events_missing', p_missing, p_missing_events, 'events'),
                        ('events_not_booked', -p_extra, -p_extra_events, 'events'),
                        ('events_edited', -p_changed, 0::bigint, 'events')) as c (cause, tokens, events, side)
   where c.tokens <> 0 or c.events <> 0;
end $$;
revoke all on function worker.usage_audit_causes from public, anon, authenticated;
grant execute on function worker.usage_audit_causes to service_role;
