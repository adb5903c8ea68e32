-- Audits of a month: every total recomputed from the ledger, the events and the batches.
create table if not exists worker.usage_audits (
  audit_id uuid not null,
  key text not null,                       -- what asked for it; asking twice is one audit
  period int not null,
  trigger text not null,
  requested_by text,
  status text not null default 'running',
  next_shard int not null default 0,       -- everything before it is compared; the only progress there is
  chunks int not null default 0,
  tenants bigint not null default 0,
  total numeric not null default 0,        -- of usage_totals
  ledger numeric not null default 0,       -- billed in the month
  used numeric not null default 0,         -- happened in the month, without corrections
  found numeric not null default 0,        -- of the events, with what was recorded of dropped days
  pruned numeric not null default 0,       -- part of found whose days were dropped
  causes jsonb not null default '{}',      -- {cause: {findings, tokens, largest}} when it is done
  differences bigint,                      -- findings that are no mere information
  period_state text,                       -- when it ended
  error_code text,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint usage_audits_pkey primary key (audit_id),
  constraint usage_audits_key_key unique (key),
  constraint usage_audits_period_check check (period between 200001 and 999912 and period % 100 between 1 and 12),
  constraint usage_audits_status_check check (status in ('running', 'succeeded', 'failed')),
  constraint usage_audits_finished_check check ((finished_at is not null) = (status in ('succeeded', 'failed'))),
  constraint usage_audits_next_shard_check check (next_shard between 0 and 65536)
);
create index if not exists usage_audits_started_at_idx on worker.usage_audits (started_at desc);
create index if not exists usage_audits_period_idx on worker.usage_audits (period, started_at desc);
alter table worker.usage_audits enable row level security;
grant select, insert, update, delete on worker.usage_audits to service_role;

-- One row for each tenant and cause, in the order in which causes are looked for.
create table if not exists worker.usage_audit_findings (
  id bigint generated always as identity,
  audit_id uuid not null,
  period int not null,
  tenant text collate "C",                 -- null when the finding is about a batch or a shard
  cause text not null,
  is_difference boolean not null,          -- false = information: explains numbers that agree
  tokens numeric not null,                 -- how far what is booked stands above (+) or below (-) the evidence
  events bigint not null,
  relative numeric,                        -- |tokens| by |total of the tenant|, six digits; null without a total
  evidence jsonb not null,
  constraint usage_audit_findings_pkey primary key (id),
  constraint usage_audit_findings_audit_id_fkey foreign key (audit_id) references worker.usage_audits (audit_id),
  constraint usage_audit_findings_cause_check check (
    cause in ('total_edited_outside_ledger', 'ledger_edited', 'double_applied', 'events_missing', 'events_not_booked',
      'events_edited', 'failed_batch', 'closed_period_changed', 'unexplained', 'quarantined', 'open_gap', 'late_event',
      'future_event'))
);
create index if not exists usage_audit_findings_audit_id_idx on worker.usage_audit_findings (audit_id, id);
create index if not exists usage_audit_findings_tenant_idx on worker.usage_audit_findings (tenant, period);
alter table worker.usage_audit_findings enable row level security;
grant select, insert, update, delete on worker.usage_audit_findings to service_role;
