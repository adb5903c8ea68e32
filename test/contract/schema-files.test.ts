import { globSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MIGRATIONS_DIR, readMigrations, withoutVector } from "../../local/backends/migrations.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

/**
 * `schemas/` is the current text, `migrations/` is the way there. The two are written by hand, so this compares what
 * they make of an empty database.
 */
const SUPABASE_DIR = `${MIGRATIONS_DIR}/..`;
const IDEMPOTENT = /^-- .*\bIdempotent\b/m;

let replayed: TestDatabase;
let fresh: TestDatabase;
beforeAll(async () => {
  [replayed, fresh] = await Promise.all([openDatabase(), openDatabase()]);
  await fresh.sql`drop schema worker, public cascade`;
  await fresh.sql`create schema public`;
  for (const file of schemaFiles()) await load(fresh.sql, readFileSync(file, "utf8"), file);
});
afterAll(() => Promise.all([replayed.close(), fresh.close()]));

/** In the order that config.toml gives the Supabase CLI. */
function schemaFiles(): string[] {
  const config = readFileSync(`${SUPABASE_DIR}/config.toml`, "utf8");
  const [, list = ""] = /^schema_paths = \[(.*)\]$/m.exec(config) ?? [];
  const patterns = [...list.matchAll(/"\.\/([^"]+)"/g)].map(([, pattern]) => String(pattern));
  return patterns.flatMap((pattern) =>
    globSync(`${SUPABASE_DIR}/${pattern}`)
      .filter((file) => !file.includes("vector"))
      .sort(),
  );
}

/** One session per file: a file may not rely on a setting that another one left behind. */
async function load(sql: Sql, text: string, file: string): Promise<void> {
  await sql
    .begin((transaction) =>
      transaction.unsafe(`set local check_function_bodies = off; ${text}`).simple(),
    )
    .catch((error: unknown) => {
      throw new Error(`${file}: ${error}`);
    });
}

/** Daily partitions come and go; what they inherit is compared with their parent. */
const CATALOGS = {
  tables: `
    select c.relname as name, c.relkind::text as kind, c.relrowsecurity as rls, c.relforcerowsecurity as forced,
           c.reloptions as options, pg_get_partkeydef(c.oid) as partitioned, c.relacl::text[] as grants
      from pg_class c
     where c.relnamespace = 'worker'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S')
       and c.relname !~ '_\\d{8}$'`,
  columns: `
    select c.relname || '.' || a.attname as name, a.attnum, format_type(a.atttypid, a.atttypmod) as type,
           a.attnotnull as required, a.attidentity::text as identity, a.attcollation::regcollation::text as collation,
           pg_get_expr(d.adbin, d.adrelid) as fallback
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
     where c.relnamespace = 'worker'::regnamespace and c.relkind in ('r', 'p') and c.relname !~ '_\\d{8}$'`,
  constraints: `
    select conrelid::regclass || '.' || conname as name, pg_get_constraintdef(oid) as definition
      from pg_constraint
     where connamespace = 'worker'::regnamespace and conrelid::regclass::text !~ '_\\d{8}$'`,
  indexes: `
    select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition, indisvalid as valid
      from pg_index
      join pg_class c on c.oid = indrelid
     where c.relnamespace = 'worker'::regnamespace and c.relname !~ '_\\d{8}$'`,
  functions: `
    select oid::regprocedure::text as name, pg_get_functiondef(oid) as definition, proacl::text[] as grants
      from pg_proc where pronamespace in ('worker'::regnamespace, 'public'::regnamespace)`,
  triggers: `
    select tgrelid::regclass || '.' || tgname as name, pg_get_triggerdef(t.oid) as definition
      from pg_trigger t
      join pg_class c on c.oid = tgrelid
     where c.relnamespace = 'worker'::regnamespace and not tgisinternal`,
  policies: `
    select schemaname || '.' || tablename || '.' || policyname as name, roles::text, cmd, qual, with_check
      from pg_policies where schemaname = 'worker'`,
  types: `
    select t.oid::regtype::text as name, t.typtype::text as kind
      from pg_type t
     where t.typnamespace = 'worker'::regnamespace and t.typtype not in ('c', 'b')`,
  schema: `select nspname as name, nspacl::text[] as grants from pg_namespace where nspname = 'worker'`,
};

async function readCatalog(sql: Sql, query: string): Promise<Record<string, unknown>> {
  const rows = await sql.unsafe(query);
  return Object.fromEntries(
    rows
      .map(
        ({ name, ...rest }) => [String(name), { ...rest, grants: rest["grants"]?.sort() }] as const,
      )
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

describe("migrations and schema files", () => {
  test.each(Object.entries(CATALOGS))("make the same %s", async (_, query) => {
    const [way, text] = await Promise.all([
      readCatalog(replayed.sql, query),
      readCatalog(fresh.sql, query),
    ]);
    expect(text).toEqual(way);
  });

  test("compare something", async () => {
    const { functions, tables } = CATALOGS;
    expect(Object.keys(await readCatalog(fresh.sql, functions)).length).toBeGreaterThan(20);
    expect(Object.keys(await readCatalog(fresh.sql, tables)).length).toBeGreaterThan(10);
  });
});

describe("schema files", () => {
  test("hold one function each, named like the file, with its grants beside it", () => {
    for (const file of schemaFiles().filter((path) => path.includes("/functions/"))) {
      const text = readFileSync(file, "utf8");
      const names = [...text.matchAll(/create or replace function worker\.(\w+)/g)].map(
        ([, name]) => name,
      );
      const name = basename(file, ".sql");
      expect(names, file).toEqual([name]);
      expect(text, file).toContain(
        `revoke all on function worker.${name} from public, anon, authenticated;\n` +
          `grant execute on function worker.${name} to service_role;\n`,
      );
    }
  });

  test("may be loaded a second time", async () => {
    for (const file of schemaFiles()) await load(fresh.sql, readFileSync(file, "utf8"), file);
  });
});

describe("docs/reference/tables.md", () => {
  const page = readFileSync(`${SUPABASE_DIR}/../docs/reference/tables.md`, "utf8");

  test("names every table and every function", async () => {
    const rows = await replayed.sql`
      select relname as name from pg_class
       where relnamespace = 'worker'::regnamespace and relkind in ('r', 'p') and relname !~ '_\\d{8}$'
       union
      select proname from pg_proc where pronamespace = 'worker'::regnamespace`;
    const missing = rows
      .map(({ name }) => String(name))
      .filter((name) => !page.includes(`\`${name}\``));
    expect(missing, "add a row to docs/reference/tables.md").toEqual([]);
  });

  test("shows queries that run, and finds nothing wrong in a new database", async () => {
    const [, queries = ""] = /```sql\n([\s\S]*?)```/.exec(page) ?? [];
    const statements = queries.split(";").filter((statement) => /\bselect\b/.test(statement));
    expect(statements.length).toBeGreaterThan(4);
    for (const statement of statements) {
      expect(await replayed.sql.unsafe(statement), statement).toHaveLength(0);
    }
  });
});

describe("migrations", () => {
  test("that claim to be idempotent are: run again at once, they change nothing", async () => {
    const database = await openDatabase();
    const snapshot = () =>
      Promise.all(Object.values(CATALOGS).map((query) => readCatalog(database.sql, query)));
    try {
      await database.sql`drop schema worker, public cascade`;
      await database.sql`create schema public`;
      for (const { file, sql } of withoutVector(readMigrations())) {
        await load(database.sql, sql, file);
        if (!IDEMPOTENT.test(sql)) continue;
        const once = await snapshot();
        await load(database.sql, sql, file);
        expect(await snapshot(), file).toEqual(once);
      }
    } finally {
      await database.close();
    }
  });

  test("say why, which lock, what if it stops halfway, and whether old code still runs", () => {
    for (const { file, sql } of readMigrations()) {
      const header = sql.slice(0, sql.indexOf("\n\n"));
      expect(header, file).toMatch(/^-- \w/);
      for (const part of [/\block/i, /halfway/i, /old code/i]) expect(header, file).toMatch(part);
    }
  });

  test("add the schema to a list of exposed schemas that the database keeps, once", async () => {
    const database = await openDatabase();
    const [schemaMigration] = readMigrations();
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    try {
      await sql.begin(async (transaction) => {
        await transaction`create role authenticator nologin`;
        await transaction`alter role authenticator set pgrst.db_schemas = 'public, graphql_public'`;
        for (let i = 0; i < 2; i += 1)
          await transaction.unsafe(schemaMigration?.sql ?? "").simple();
        const [role] =
          await transaction`select rolconfig from pg_roles where rolname = 'authenticator'`;
        expect(role?.["rolconfig"]).toEqual(["pgrst.db_schemas=public, graphql_public, worker"]);
        throw new RolledBack();
      });
    } catch (error) {
      if (!(error instanceof RolledBack)) throw error;
    } finally {
      await sql.end();
      await database.close();
    }
  });
});

/** Roles are shared by all databases of the server: the role of this test may not outlive it. */
class RolledBack extends Error {}
