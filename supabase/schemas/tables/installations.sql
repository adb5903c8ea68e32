-- When this database first met the service. Without it nobody can tell "never ran" from "has not been due yet".
create table if not exists worker.installations (
  id int not null default 1,
  installed_at timestamptz not null default now(),
  constraint installations_pkey primary key (id),
  constraint installations_single_check check (id = 1)
);
alter table worker.installations enable row level security;
grant select on worker.installations to service_role;

insert into worker.installations default values on conflict on constraint installations_pkey do nothing;
