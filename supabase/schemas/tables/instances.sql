-- Running copies of the service. They share no memory, so this is where they know of each other.
create table if not exists worker.instances (
  id text not null,                        -- made up at the start of the process
  started_at timestamptz not null,
  seen_at timestamptz not null,
  memory_mb numeric not null,
  constraint instances_pkey primary key (id),
  constraint instances_id_check check (length(id) between 1 and 100)
);
create index if not exists instances_seen_at_idx on worker.instances (seen_at);
alter table worker.instances enable row level security;
grant select, insert, update, delete on worker.instances to service_role;

-- Since when at least one copy runs, whichever it is.
create table if not exists worker.fleet (
  is_fleet boolean not null default true,
  up_since timestamptz not null,
  seen_at timestamptz not null,
  constraint fleet_pkey primary key (is_fleet),
  constraint fleet_is_fleet_check check (is_fleet)
);
alter table worker.fleet enable row level security;
grant select, insert, update on worker.fleet to service_role;
