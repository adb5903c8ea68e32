import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RunningChild, startNodeChild } from "../../../local/backends/child-process.ts";
import { SUPABASE_KEYS } from "../../../local/backends/supabase-keys.ts";
import { openDatabase, type TestDatabase } from "../../support/stack.ts";

// What @supabase/lite gets wrong and `supabase-connection.ts` corrects, on both databases it runs on here.

const FIXTURE = `
create schema if not exists worker;
grant usage on schema worker to anon, service_role;
create table worker.things (
  id int primary key,
  amount bigint,
  price numeric,
  created_at timestamptz not null default '2026-11-22 03:56:37.798+00',
  constraint things_amount_positive check (amount > 0)
);
alter table worker.things enable row level security;
grant all on worker.things to service_role;
create function worker.fail(p_code text) returns void language plpgsql as $$
begin raise exception 'the message' using errcode = p_code, detail = 'the detail', hint = 'the hint'; end $$;
create function worker.kind_of(p_value jsonb) returns text language sql as $$ select jsonb_typeof(p_value) $$;
create function worker.add_text(p_a text, p_b text) returns text language sql as $$
  select (p_a::numeric + p_b::numeric)::text $$;
create function worker.role_name() returns text language sql as $$ select current_user::text $$;
create function worker.statement_timeout() returns text language sql as $$
  select current_setting('statement_timeout') $$;
`;
const VECTOR_FIXTURE = `
create extension if not exists vector with schema extensions;
create function worker.distance(p_a text, p_b text) returns double precision language sql
  set search_path = extensions, pg_catalog as $$ select p_a::vector <-> p_b::vector $$;
`;

const SERVER = new URL("../../../local/backends/supabase.child.ts", import.meta.url);

describe.each(["postgres", "pglite"] as const)("the Supabase API on %s", (kind) => {
  const migrations = mkdtempSync(join(tmpdir(), "worker-service-migrations-"));
  const data = mkdtempSync(join(tmpdir(), "worker-service-pglite-"));
  let database: TestDatabase | undefined;
  let server: RunningChild;

  beforeAll(async () => {
    writeFileSync(join(migrations, "20260101000000_create_fixture.sql"), FIXTURE);
    writeFileSync(join(migrations, "20260101000001_create_vector_distance.sql"), VECTOR_FIXTURE);
    if (kind === "postgres") database = await openDatabase();
    else writeFileSync(join(data, "PG_VERSION"), "left by a first start that was killed");
    const source = database === undefined ? ["--pglite", data] : ["--postgres", database.url];
    const args = [...source, "--migrations", migrations];
    server = await startNodeChild("Supabase API", SERVER, args);
  });
  afterAll(async () => {
    await server.stop();
    await database?.close();
    for (const dir of [migrations, data]) rmSync(dir, { recursive: true });
  });

  const client = (key: string = SUPABASE_KEYS.secret) =>
    createClient(server.value, key, { db: { schema: "worker" }, auth: { persistSession: false } });

  test.each([
    ["P0001", 400],
    ["P0002", 500],
    ["UL001", 400],
    ["40001", 500],
    ["40P01", 500],
    ["57014", 500],
    ["55P03", 500],
    ["53300", 503],
    ["22023", 400],
    ["42501", 403],
    ["23503", 409],
    ["23505", 409],
    ["23514", 400],
    ["XX000", 500],
  ])("an error with SQLSTATE %s has status %i and keeps code and text", async (code, status) => {
    const { error, status: answered } = await client().rpc("fail", { p_code: code });
    expect(answered).toBe(status);
    expect(error).toMatchObject({ code, message: "the message", details: "the detail" });
  });

  test("a function that names its own HTTP status gets it", async () => {
    expect((await client().rpc("fail", { p_code: "PT409" })).status).toBe(409);
  });

  test("a broken check constraint is a 400 that names the constraint", async () => {
    const { error, status } = await client().from("things").insert({ id: 1, amount: -5 });
    expect(status).toBe(400);
    expect(error).toMatchObject({ code: "23514", message: /things_amount_positive/ });
  });

  test("rows have timestamps as PostgREST writes them, and numbers as numbers", async () => {
    await client().from("things").insert({ id: 2, amount: 12, price: 1.5 });
    const { data } = await client().from("things").select().eq("id", 2).single();
    expect(data).toEqual({
      id: 2,
      amount: 12,
      price: 1.5,
      created_at: "2026-11-22T03:56:37.798+00:00",
    });
  });

  test("amounts beyond 2^53 are exact when they travel as text", async () => {
    const args = { p_a: "9007199254740993", p_b: "9007199254740993" };
    expect((await client().rpc("add_text", args)).data).toBe("18014398509481986");
  });

  test.each([
    [{ a: 1 }, "object"],
    [[1, 2], "array"],
  ])("a jsonb argument arrives as it was sent: %j", async (value, type) => {
    expect((await client().rpc("kind_of", { p_value: value })).data).toBe(type);
  });

  test("the secret key acts as service_role, the publishable one as anon, a wrong one is 401", async () => {
    expect((await client().rpc("role_name")).data).toBe("service_role");
    expect((await client(SUPABASE_KEYS.publishable).rpc("role_name")).data).toBe("anon");
    expect((await client("sb_secret_wrong_0123456789abcdef").rpc("role_name")).status).toBe(401);
  });

  test("the first calls of a fresh API may come all at once", async () => {
    const calls = Array.from({ length: 30 }, () => client().rpc("role_name"));
    const answers = await Promise.all(calls);
    expect(answers.map(({ data }) => data)).toEqual(Array(30).fill("service_role"));
  });

  test.runIf(kind === "pglite")("a folder whose first start was killed begins again", () => {
    expect(readFileSync(join(data, "PG_VERSION"), "utf8").trim()).toBe("17");
  });

  test.runIf(kind === "pglite")("vectors work, because PGlite has pgvector", async () => {
    const { data } = await client().rpc("distance", { p_a: "[0,3]", p_b: "[4,0]" });
    expect(data).toBe(5);
  });

  test.runIf(kind === "postgres")("the migration that needs pgvector is left out", async () => {
    expect((await client().rpc("distance", { p_a: "[0]", p_b: "[1]" })).status).toBe(404);
  });

  test.runIf(kind === "postgres")("a statement may take 8 s, as on a hosted project", async () => {
    expect((await client().rpc("statement_timeout")).data).toBe("8s");
  });
});

describe("the Supabase API of a test database", () => {
  test("a second database does not see what was written to the first", async () => {
    const [first, second] = await Promise.all([openDatabase(), openDatabase()]);
    await first.sql`create table public.mark (n bigint)`;
    await first.sql`insert into public.mark values (9007199254740993)`;
    expect(await first.sql`select n from public.mark`).toEqual([{ n: "9007199254740993" }]);
    const { url, key } = await second.supabase();
    expect((await createClient(url, key).from("mark").select()).status).toBe(404);
    await Promise.all([first.close(), second.close()]);
  });
});

describe("the Supabase API that was just opened", () => {
  const OPENED = 5;
  const CALLS = 8;

  test("answers many first calls at once", async () => {
    const answers: string[] = [];
    for (let opened = 0; opened < OPENED; opened += 1) {
      const database = await openDatabase();
      const { url, key } = await database.supabase();
      const client = createClient(url, key, { db: { schema: "worker" } });
      const call = async (shard: number) => {
        const { error } = await client.rpc("usage_shard_state", { p_shard: shard });
        return error === null ? "answered" : `${error.code} ${error.message}`;
      };
      answers.push(...(await Promise.all(Array.from({ length: CALLS }, (_, i) => call(i)))));
      await database.close();
    }
    expect(new Set(answers)).toEqual(new Set(["answered"]));
  });
});
