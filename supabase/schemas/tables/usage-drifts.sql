-- What the counters in Redis and the ledger say differently, why, and what was done about it.

-- One correction of all counters of a shard: an intention until it is settled. `rep` in Redis names the last one that
-- was applied. An epoch is spent by the first repair that is planned on it, so that no difference is corrected twice.
create table if not exists worker.usage_repairs (
  repair_id uuid not null,
  run_id uuid not null,
  shard int not null,
  epoch text not null,                     -- `rep` when the counters were read; '' = none
  status text not null default 'planned',
  planned_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint usage_repairs_pkey primary key (repair_id),
  constraint usage_repairs_epoch_key unique (shard, epoch),
  constraint usage_repairs_status_check check (status in ('planned', 'applied', 'superseded')),
  constraint usage_repairs_settled_check check ((settled_at is null) = (status = 'planned'))
);
create unique index if not exists usage_repairs_planned_idx on worker.usage_repairs (shard) where status = 'planned';
alter table worker.usage_repairs enable row level security;
grant select, insert, update, delete on worker.usage_repairs to service_role;

create table if not exists worker.usage_drifts (
  id bigint generated always as identity,
  run_id uuid not null,                    -- that found it
  last_run_id uuid not null,               -- that saw it last
  shard int not null,
  tenant text collate "C" not null,
  period int not null,
  inc text not null,                       -- the instant of the comparison: lineage and last entry of the log
  n bigint not null,
  redis numeric,                           -- null = no counter, or one that is not a number
  used numeric not null,                   -- what the ledger says happened in the period
  drift numeric not null,                  -- redis - used; of total_edited: total - sum of the ledger
  cause text not null,
  repair text not null,                    -- what follows what: proposed, or decided by a person
  state text not null,
  repair_id uuid,
  evidence jsonb not null default '{}',
  decisions jsonb not null default '[]',   -- [{decision, repair, who, why, at}], the last one holds
  detected_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  repaired_at timestamptz,
  constraint usage_drifts_pkey primary key (id),
  constraint usage_drifts_cause_check check (
    cause in ('redis_key_missing', 'redis_behind', 'redis_ahead', 'redis_unreadable', 'entry_lost_before_apply',
      'quarantined', 'total_edited')),
  constraint usage_drifts_repair_check check (repair in ('counter', 'ledger', 'total')),
  constraint usage_drifts_state_check check (
    state in ('found', 'planned', 'repaired', 'superseded', 'hold_for_approval', 'wait_for_quarantine', 'approved',
      'rejected')),
  constraint usage_drifts_repaired_check check ((repaired_at is not null) = (state = 'repaired'))
);
-- A difference that stands is one row, however often it is seen.
create unique index if not exists usage_drifts_standing_idx on worker.usage_drifts (tenant, period)
  where state in ('hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected');
create unique index if not exists usage_drifts_found_idx on worker.usage_drifts (run_id, tenant, period)
  where state = 'found';
create index if not exists usage_drifts_shard_idx on worker.usage_drifts (shard, state)
  where state in ('planned', 'hold_for_approval', 'wait_for_quarantine', 'approved', 'rejected');
create index if not exists usage_drifts_tenant_idx on worker.usage_drifts (tenant, id);
create index if not exists usage_drifts_run_id_idx on worker.usage_drifts (run_id, shard);
create index if not exists usage_drifts_last_run_id_idx on worker.usage_drifts (last_run_id);
create index if not exists usage_drifts_repair_id_idx on worker.usage_drifts (repair_id) where repair_id is not null;
alter table worker.usage_drifts enable row level security;
grant select, insert, update, delete on worker.usage_drifts to service_role;

-- One difference, classified. What usage_classify_drifts answers.
do $$
begin
  if to_regtype('worker.usage_drift_finding') is null then
    create type worker.usage_drift_finding as (
      tenant text, period int, redis numeric, used numeric, drift numeric, cause text, repair text, state text,
      evidence jsonb);
  end if;
end $$;
