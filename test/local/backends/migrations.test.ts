import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  applyMigrations,
  type Migration,
  readMigrations,
  type SqlSession,
  withoutVector,
} from "../../../local/backends/migrations.ts";
import { openDatabase, type TestDatabase } from "../../support/stack.ts";

const migration = (version: string, name: string, sql: string): Migration => ({
  version,
  name,
  file: `${version}_${name}.sql`,
  sql,
});
const first = migration("20300101000000", "create_first", "create table public.first (id int);");
const second = migration(
  "20300101000001",
  "create_second",
  "create table public.second (id int);\ncreate table public.third (id int);",
);

describe("applying migrations", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openDatabase();
  });
  afterAll(() => database.close());

  /** One connection, as the runner needs: advisory locks and transactions belong to a session. */
  const withSession = async <T>(work: (session: SqlSession) => Promise<T>): Promise<T> => {
    const connection = await database.sql.reserve();
    try {
      return await work({ exec: (text) => connection.unsafe(text).simple() });
    } finally {
      connection.release();
    }
  };
  const apply = (...migrations: Migration[]) =>
    withSession((session) => applyMigrations(session, migrations));

  test("each one is applied once, in order, and recorded where the Supabase CLI records it", async () => {
    expect(await apply(first, second)).toEqual([first.file, second.file]);
    expect(await apply(first, second)).toEqual([]);
    const rows = await database.sql`
      select version, name from supabase_migrations.schema_migrations where version > '2030' order by version`;
    expect([...rows]).toEqual([
      { version: first.version, name: "create_first" },
      { version: second.version, name: "create_second" },
    ]);
  });

  test("one that fails leaves nothing behind and says where it failed", async () => {
    const broken = migration(
      "20300102000000",
      "break_things",
      "create table public.half (id int);\n\nselect nonsense;",
    );
    await expect(apply(broken)).rejects.toThrow(
      'The migration 20300102000000_break_things.sql failed at line 3: column "nonsense" does not exist (42703)',
    );
    expect(await database.sql`select to_regclass('public.half') as half`).toEqual([{ half: null }]);
  });

  test("one that changed after it was applied is refused", async () => {
    const changed = { ...first, sql: `${first.sql} -- edited` };
    await expect(apply(changed)).rejects.toThrow(/create_first.sql changed after it was applied/);
  });

  test("two runs at the same time apply each migration once", async () => {
    const third = migration(
      "20300103000000",
      "create_fourth",
      "create table public.fourth (id int);",
    );
    const applied = await Promise.all([apply(third), apply(third)]);
    expect(applied.flat()).toEqual([third.file]);
  });

  test("the roles of a Supabase project exist before the first migration", async () => {
    const roles = await database.sql`
      select rolname, rolbypassrls from pg_roles
      where rolname in ('anon', 'authenticated', 'service_role') order by rolname`;
    expect([...roles]).toEqual([
      { rolname: "anon", rolbypassrls: false },
      { rolname: "authenticated", rolbypassrls: false },
      { rolname: "service_role", rolbypassrls: true },
    ]);
  });
});

describe("reading migrations", () => {
  const dir = mkdtempSync(join(tmpdir(), "worker-service-migrations-"));
  afterAll(() => rmSync(dir, { recursive: true }));
  const write = (file: string) => writeFileSync(join(dir, file), "select 1;");

  test("a folder that does not exist has none", () => {
    expect(readMigrations(join(dir, "absent"))).toEqual([]);
  });

  test("they come in order of version, and other files do not count", () => {
    write("20260102000000_create_b.sql");
    write("20260101000000_create_a.sql");
    write("README.md");
    expect(readMigrations(dir).map(({ name }) => name)).toEqual(["create_a", "create_b"]);
  });

  test("a name without version, and a version used twice, are refused", () => {
    write("20260102000000_create_c.sql");
    expect(() => readMigrations(dir)).toThrow(
      /create_b.sql and .*create_c.sql have the same version/,
    );
    rmSync(join(dir, "20260102000000_create_c.sql"));
    write("create_d.sql");
    expect(() => readMigrations(dir)).toThrow(
      /create_d.sql is not named YYYYMMDDHHMMSS_verb_object/,
    );
  });

  test("those that need pgvector are left out on plain Postgres", () => {
    const vector = migration("20300101000002", "create_chunk_vectors", "");
    expect(withoutVector([first, vector])).toEqual([first]);
  });
});
