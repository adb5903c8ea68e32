import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { StartError } from "./start-error.ts";

export const MIGRATIONS_DIR = fileURLToPath(new URL("../../supabase/migrations", import.meta.url));

const FILE_NAME = /^(\d{14})_([a-z0-9_]+)\.sql$/;

export interface Migration {
  /** `YYYYMMDDHHMMSS`; the order. */
  readonly version: string;
  readonly name: string;
  readonly file: string;
  readonly sql: string;
}

/** One session of any Postgres. `exec` takes several statements and answers the rows of the last one. */
export interface SqlSession {
  exec(sql: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

/** In order of version. A folder that does not exist has no migrations. */
export function readMigrations(dir: string = MIGRATIONS_DIR): Migration[] {
  const migrations = listSqlFiles(dir).map((file) => {
    const [, version, name] = FILE_NAME.exec(file) ?? [];
    if (version === undefined || name === undefined) {
      throw new StartError(`${join(dir, file)} is not named YYYYMMDDHHMMSS_verb_object.sql`);
    }
    return { version, name, file, sql: readFileSync(join(dir, file), "utf8") };
  });
  refuseSharedVersions(migrations);
  return migrations;
}

/**
 * What a Supabase project has before its first migration, then every pending migration in a transaction of its own,
 * recorded where the Supabase CLI records it. Safe to run twice, and at the same time: the second waits.
 *
 * @throws StartError for a migration that fails, or that changed after it was applied; both name the file.
 */
export async function applyMigrations(
  session: SqlSession,
  migrations: readonly Migration[],
): Promise<string[]> {
  await session.exec(`select pg_advisory_lock(${LOCK_ID})`);
  try {
    await session.exec(PROJECT_BASE);
    const applied = await readApplied(session);
    const pending = migrations.filter((migration) => isPending(migration, applied));
    for (const migration of pending) await apply(session, migration);
    return pending.map(({ file }) => file);
  } finally {
    await session.exec(`select pg_advisory_unlock(${LOCK_ID})`);
  }
}

/** Plain Postgres has no pgvector; what needs it is a migration of its own. */
export const withoutVector = (migrations: readonly Migration[]): Migration[] =>
  migrations.filter(({ name }) => !name.includes("vector"));

/** Any number; the same for every run of the migrations. */
const LOCK_ID = 7_301_551;

// Roles belong to the cluster, so another database may be creating them at this moment: hence the exception handler.
const PROJECT_BASE = `
do $$
declare r record;
begin
  for r in
    select * from (values ('anon', ''), ('authenticated', ''), ('service_role', 'bypassrls')) as t (name, options)
  loop
    if not exists (select from pg_roles where rolname = r.name) then
      begin
        execute format('create role %I nologin noinherit %s', r.name, r.options);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
end $$;
create schema if not exists extensions;
grant usage on schema extensions to anon, authenticated, service_role;
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text not null primary key,
  statements text[],
  name text
);`;

function listSqlFiles(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((file) => file.endsWith(".sql"))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function refuseSharedVersions(migrations: readonly Migration[]): void {
  for (const [index, migration] of migrations.entries()) {
    const previous = migrations[index - 1];
    if (previous?.version === migration.version) {
      throw new StartError(`${previous.file} and ${migration.file} have the same version`);
    }
  }
}

async function readApplied(session: SqlSession): Promise<Map<string, string>> {
  const rows = await session.exec(
    "select version, array_to_string(statements, '') as sql from supabase_migrations.schema_migrations",
  );
  return new Map(rows.map((row) => [String(row["version"]), String(row["sql"])]));
}

function isPending(migration: Migration, applied: ReadonlyMap<string, string>): boolean {
  const sql = applied.get(migration.version);
  if (sql === undefined) return true;
  if (sql === migration.sql) return false;
  throw new StartError(
    `The migration ${migration.file} changed after it was applied to this database. ` +
      "Add a new migration instead, or start again from nothing (`npm start -- --reset`).",
  );
}

async function apply(session: SqlSession, migration: Migration): Promise<void> {
  try {
    await session.exec("begin");
    await session.exec(migration.sql);
    await session.exec(
      `insert into supabase_migrations.schema_migrations (version, name, statements)
       values (${literal(migration.version)}, ${literal(migration.name)}, array[${literal(migration.sql)}])`,
    );
    await session.exec("commit");
  } catch (error) {
    await session.exec("rollback");
    throw new StartError(`The migration ${migration.file} failed${describe(error, migration.sql)}`);
  }
}

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Message, SQLSTATE and line, as far as the driver tells. */
function describe(error: unknown, sql: string): string {
  if (!(error instanceof Error)) return `: ${String(error)}`;
  const { code, position, where } = error as Error & Record<"code" | "position" | "where", unknown>;
  const line = Number(position) > 0 ? sql.slice(0, Number(position)).split("\n").length : undefined;
  const at = line === undefined ? "" : ` at line ${line}`;
  const context = typeof where === "string" ? `\n${where}` : "";
  return `${at}: ${error.message}${code === undefined ? "" : ` (${String(code)})`}${context}`;
}
