-- Answers 1: proves that the API reaches the database, at the lowest possible price.
create or replace function worker.ping() returns int
language sql stable security invoker set search_path = '' as $$ select 1 $$;
revoke all on function worker.ping from public, anon, authenticated;
grant execute on function worker.ping to service_role;
