-- Why: everything of the service lives in the schema worker, reached by the service role alone.
-- Lock: none that anybody waits for. The roles belong to the server and are only made where they are missing.
-- If it stops halfway: it is one transaction; run it again. Idempotent.
-- Old code: there is none yet.

-- Schema of the service and the three roles of the API.

-- Supabase brings these roles; a bare or embedded Postgres may not have them yet, and without them the grants below
-- could not be given. Roles belong to the server, not to the database: another database may create them meanwhile.
do $$
declare
  r record;
begin
  for r in
    select * from (values ('anon', 'nologin'), ('authenticated', 'nologin'), ('service_role', 'nologin bypassrls'))
      as roles (name, options)
  loop
    begin
      if not exists (select from pg_roles where rolname = r.name) then
        execute format('create role %I %s', r.name, r.options);
      end if;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end loop;
end $$;

create schema if not exists worker;
grant usage on schema worker to service_role;

-- PostgREST serves a schema only when it is exposed. Where the list is kept in the database it is extended; where it
-- is kept in config.toml or in the dashboard it is left alone, because a list set here would silently overrule those.
do $$
declare
  v_schemas text := (
    select split_part(setting, '=', 2)
      from pg_roles, unnest(rolconfig) as setting
     where rolname = 'authenticator' and setting like 'pgrst.db_schemas=%');
begin
  if v_schemas is not null and not ('worker' = any (regexp_split_to_array(v_schemas, '\s*,\s*'))) then
    execute format('alter role authenticator set pgrst.db_schemas = %L', v_schemas || ', worker');
  end if;
end $$;
notify pgrst, 'reload config';
notify pgrst, 'reload schema';

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

-- Answers 1: proves that the API reaches the database, at the lowest possible price.
create or replace function worker.ping() returns int
language sql stable security invoker set search_path = '' as $$ select 1 $$;
revoke all on function worker.ping from public, anon, authenticated;
grant execute on function worker.ping to service_role;
