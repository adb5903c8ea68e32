-- Part of usage_audit_differences: why the numbers of one tenant differ. Pure. Three witnesses: the total, the ledger and
-- the events; who stands alone is wrong. Tokens say how far what is booked stands above the evidence.
--   p_total           total minus ledger
--   p_edited, p_added, p_removed  how far the ledger is wrong, because its batches say so: with as many uses as there
--                     should be, with more, with fewer
--   p_missing         booked uses whose events are gone; p_twice: the same, of a part of the log that was applied twice
--   p_extra           events that were never booked; p_changed: events whose amount is another one
--   p_open            ledger minus events where no batch says which of them is wrong
--   p_.._events       the same in numbers of uses
--   returns  side: ledger | events | both = whose batches are the evidence, null = the total's
create or replace function worker.usage_audit_causes(p_total numeric, p_total_events bigint, p_edited numeric,
  p_added numeric, p_added_events bigint, p_removed numeric, p_removed_events bigint, p_missing numeric,
  p_missing_events bigint, p_twice numeric, p_twice_events bigint, p_extra numeric, p_extra_events bigint,
  p_changed numeric, p_open numeric, p_open_events bigint)
returns table (cause text, tokens numeric, events bigint, side text)
language plpgsql immutable security invoker set search_path = '' as $$
declare
  -- The total minus what the ledger should say; wrong rows of the ledger are taken out step by step.
  v_off numeric := p_total + p_edited;
  v_off_events bigint := p_total_events;
  -- Rows that are too many, or too few, are an error of the ledger alone, unless the total went along with them.
  v_added_along boolean := p_added_events > 0 and (v_off_events in (0, -p_removed_events) or v_off in (0, -p_removed));
  v_removed_along boolean := p_removed_events < 0 and (v_off_events in (0, -p_added_events) or v_off in (0, -p_added));
  v_edited numeric := p_edited;
  v_edited_events bigint := 0;
begin
  if v_added_along then
    return query values ('double_applied', p_added, p_added_events, 'ledger');
  elsif p_added_events > 0 then
    v_edited := v_edited + p_added;
    v_edited_events := v_edited_events + p_added_events;
    v_off := v_off + p_added;
    v_off_events := v_off_events + p_added_events;
  end if;
  if v_removed_along then
    return query values ('events_not_booked', p_removed, p_removed_events, 'ledger');
  elsif p_removed_events < 0 then
    v_edited := v_edited + p_removed;
    v_edited_events := v_edited_events + p_removed_events;
    v_off := v_off + p_removed;
    v_off_events := v_off_events + p_removed_events;
  end if;

  if p_open <> 0 or p_open_events <> 0 then
    if v_off_events = -p_open_events and (v_off = -p_open or p_open_events <> 0) then
      v_edited := v_edited + p_open;                 -- the total stands with the events
      v_edited_events := v_edited_events + p_open_events;
      v_off := v_off + p_open;
      v_off_events := v_off_events + p_open_events;
    elsif v_off_events = 0 and (v_off = 0 or p_open_events <> 0) then
      if p_open_events > 0 then                      -- the total stands with the ledger
        p_missing := p_missing + p_open;
        p_missing_events := p_missing_events + p_open_events;
      elsif p_open_events < 0 then
        p_extra := p_extra - p_open;
        p_extra_events := p_extra_events - p_open_events;
      else
        p_changed := p_changed - p_open;
      end if;
    else
      return query values ('unexplained', p_open, p_open_events, 'both');
    end if;
  end if;

  -- A total whose tokens went along is right, whatever its number of uses says.
  if v_off <> 0 or (v_off_events <> 0 and not v_added_along and not v_removed_along) then
    return query values ('total_edited_outside_ledger', v_off, v_off_events, null::text);
  end if;
  return query
  select * from (values ('ledger_edited', v_edited, v_edited_events, 'ledger'),
                        ('double_applied', p_twice, p_twice_events, 'events'),
                        ('events_missing', p_missing, p_missing_events, 'events'),
                        ('events_not_booked', -p_extra, -p_extra_events, 'events'),
                        ('events_edited', -p_changed, 0::bigint, 'events')) as c (cause, tokens, events, side)
   where c.tokens <> 0 or c.events <> 0;
end $$;
revoke all on function worker.usage_audit_causes from public, anon, authenticated;
grant execute on function worker.usage_audit_causes to service_role;
