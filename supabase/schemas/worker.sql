-- Schema of the service and the three roles of the API. The first file to load.

-- Functions call each other, and their files load in alphabetical order.
set check_function_bodies = off;

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
