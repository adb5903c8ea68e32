import { randomUUID } from "node:crypto";
import fc from "fast-check";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readMigrations } from "../../local/backends/migrations.ts";
import { createRpc, type Rpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { dayOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";
import { signal } from "../support/usage-world.ts";

const CONNECTIONS = 50;

let database: TestDatabase;
let crowd: Sql;
let rpc: Rpc;
let anonymous: Rpc;
const closing: (() => Promise<void>)[] = [];
beforeAll(async () => {
  database = await openDatabase();
  crowd = postgres(database.url, { max: CONNECTIONS, onnotice: () => {} });
  const { url, key, publishableKey } = await database.supabase();
  const open = (with_: string) => {
    const client = createRpc({ url, key: with_, schema: "public" });
    closing.push(client.close);
    return client.rpc;
  };
  [rpc, anonymous] = [open(key), open(publishableKey)];
});
afterAll(async () => {
  await Promise.all(closing.map((close) => close()));
  await crowd.end({ timeout: 1 });
  await database.close();
});

const tenantName = () => `acme-${randomUUID()}`;
const increment = (tenant: unknown, tokens: unknown) =>
  rpc("increment_token_usage", { p_tenant_id: tenant, p_tokens: tokens }, signal);
const booksOf = async (tenant: string) => {
  const [row] = await database.sql`
    select (select coalesce(sum(tokens), 0)::text from worker.usage_events where tenant = ${tenant}) as events,
           (select coalesce(sum(tokens), 0)::text from worker.usage_ledger where tenant = ${tenant}) as ledger,
           (select coalesce(sum(tokens), 0)::text from worker.usage_totals where tenant = ${tenant}) as totals`;
  return row;
};
const books = (tokens: string) => ({ events: tokens, ledger: tokens, totals: tokens });

describe("increment_token_usage", () => {
  test("books a use at once in the present month, as its own lane, and returns nothing", async () => {
    const acme = tenantName();
    expect(await increment(acme, 12)).toBeNull();
    const now = Date.now();
    const [row] = await database.sql`
      select l.period, l.usage_period, l.token_type, l.model, l.reason, l.lane, e.day, t.shard, t.legacy::text,
             b.lane as batch, b.shard as batch_shard, b.from_n::int
        from worker.usage_ledger l join worker.usage_events e using (batch_id, tenant)
        join worker.usage_batches b using (batch_id) join worker.usage_totals t on t.tenant = l.tenant
       where l.tenant = ${acme}`;
    expect(row).toMatchObject({
      period: periodOf(now),
      usage_period: periodOf(now),
      token_type: "llm",
      model: "",
      reason: "usage",
      lane: "legacy_direct",
      shard: shardOf(acme),
      legacy: "12",
      batch: "legacy_direct",
      batch_shard: shardOf(acme),
      from_n: dayOf(now),
    });
  });

  test("for embeddings books the other type", async () => {
    const acme = tenantName();
    await rpc("increment_embedding_token_usage", { p_tenant_id: acme, p_tokens: 3 }, signal);
    const [row] = await database.sql`
      select token_type, tokens::text from worker.usage_ledger where tenant = ${acme}`;
    expect(row).toEqual({ token_type: "embedding", tokens: "3" });
  });

  test("called twice with the same amount is two uses", async () => {
    const acme = tenantName();
    await increment(acme, 5);
    await increment(acme, 5);
    expect(await booksOf(acme)).toEqual(books("10"));
  });

  test.each([
    ["a UUID", "7c9e6679-7425-40de-944b-e07fc1f90ae7"],
    ["not ASCII", "ñandú|漢字 🦤"],
    ["a number", 42],
  ])("takes a tenant that is %s", async (_, tenant) => {
    await increment(tenant, 1);
    const [row] = await database.sql`
      select shard from worker.usage_totals where tenant = ${String(tenant)}`;
    expect(row).toEqual({ shard: shardOf(String(tenant)) });
  });

  test.each([
    ["no tenant", null, 1],
    ["an empty tenant", "", 1],
    ["a long tenant", "x".repeat(201), 1],
    ["a tenant with a line break", "a\nb", 1],
    ["no tokens", "acme", null],
    ["negative tokens", "acme", -1],
    ["a part of a token", "acme", 1.5],
    ["more than 10^15 tokens", "acme", 1_000_000_000_000_001],
    ["more than a bigint", "acme", "99999999999999999999"],
  ])("refuses %s, so that the producer keeps the use pending", async (_, tenant, tokens) => {
    await expect(increment(tenant, tokens)).rejects.toMatchObject({ code: "database_refused" });
  });

  test("books 10^15 tokens to the token, and zero as a use of nothing", async () => {
    const acme = tenantName();
    await increment(acme, 1_000_000_000_000_000);
    await increment(acme, 0);
    expect(await booksOf(acme)).toEqual(books("1000000000000000"));
  });

  test("by anybody but the service role is refused", async () => {
    const args = { p_tenant_id: "acme", p_tokens: 1 };
    await expect(anonymous("increment_token_usage", args, signal)).rejects.toMatchObject({
      details: { sqlstate: "42501" },
    });
    for (const role of ["anon", "authenticated"]) {
      const [row] = await database.sql`
        select has_function_privilege(${role}, 'public.increment_token_usage(text, bigint)', 'execute') as llm,
               has_function_privilege(${role}, 'public.increment_embedding_token_usage(text, bigint)', 'execute') as embedding`;
      expect(row).toEqual({ llm: false, embedding: false });
    }
  });
});

const calling = async (tenant: string, tokens: number): Promise<void> => {
  await crowd`select public.increment_token_usage(${tenant}, ${tokens})`;
};

describe("at the same time", () => {
  test("fifty connections with ten calls each for one tenant are exact", async () => {
    const acme = tenantName();
    const worker = async (i: number) => {
      for (let call = 0; call < 10; call += 1) await calling(acme, i);
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, (_, i) => worker(i)));
    expect(await booksOf(acme)).toEqual(books(String(10 * ((49 * 50) / 2))));
    const [batch] = await database.sql`
      select seen, applied, dup, tokens::text from worker.usage_batches
       where shard = ${shardOf(acme)} and lane = 'legacy_direct'`;
    expect(batch).toMatchObject({ dup: 0 });
    expect(batch?.["seen"]).toBe(batch?.["applied"]);
  });

  test("five hundred calls for fifty tenants meet no deadlock with drains of the same tenants", async () => {
    const tenants = Array.from({ length: CONNECTIONS }, tenantName);
    const page = (tenantsOfPage: readonly string[]) => crowd`
      select worker.usage_legacy_book_pending(null, ${tenantsOfPage.map(() => randomUUID())}::uuid[],
        ${tenantsOfPage as string[]}::text[], ${tenantsOfPage.map(shardOf)}::int[],
        ${tenantsOfPage.map(() => 202611)}::int[], ${tenantsOfPage.map(() => 20_781)}::int[],
        ${tenantsOfPage.map(() => 7)}::numeric[], ${tenantsOfPage.map(() => "llm")}::text[],
        ${tenantsOfPage.map(() => "")}::text[])`;
    const pages = Array.from({ length: 20 }, (_, i) =>
      page(i % 2 === 0 ? tenants : [...tenants].reverse()),
    );
    const calls = Array.from({ length: 500 }, (_, i) => calling(tenants[i % CONNECTIONS] ?? "", 1));
    await Promise.all([...pages, ...calls]);
    for (const tenant of tenants) expect(await booksOf(tenant)).toEqual(books("150"));
  });

  test("a call waits for its own tenant's shard only", async () => {
    const acme = tenantName();
    let other = tenantName();
    while (shardOf(other) === shardOf(acme)) other = tenantName();
    await calling(acme, 1);
    await crowd.begin(async (sql) => {
      await sql`select from worker.usage_shards where shard = ${shardOf(acme)} for update`;
      const waiting = calling(acme, 1);
      await calling(other, 1);
      expect(await Promise.race([waiting.then(() => "done"), isBlocked(acme)])).toBe("blocked");
      waiting.catch(() => {});
    });
    await expect.poll(() => booksOf(acme)).toEqual(books("2"));
    expect(await booksOf(other)).toEqual(books("1"));
  });
});

/** Somebody waits for a row of the shards. */
async function isBlocked(tenant: string): Promise<string> {
  await expect
    .poll(async () => {
      const [row] = await database.sql`
        select count(*)::int as waiting from pg_stat_activity
         where wait_event_type = 'Lock' and datname = current_database() and query like '%increment_token_usage%'`;
      return row?.["waiting"];
    })
    .toBe(1);
  return tenant === "" ? "" : "blocked";
}

describe("the shard of a tenant in SQL", () => {
  test.each([
    ["acme", 62],
    ["7c9e6679-7425-40de-944b-e07fc1f90ae7", 152],
    ["ñandú", 150],
  ])("%s is %d, as in every producer", async (tenant, shard) => {
    const [row] = await database.sql`select worker.usage_shard_of(${tenant}) as shard`;
    expect(row).toEqual({ shard });
  });

  test("is the same number for any text", async () => {
    const texts = fc.sample(fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }), 300);
    const rows = await database.sql`
      select tenant, worker.usage_shard_of(tenant) as shard from unnest(${texts}::text[]) as t (tenant)`;
    for (const { tenant, shard } of rows) expect(shard, tenant).toBe(shardOf(tenant));
  });
});

describe("a database that has such a function already", () => {
  const migration = () => {
    const found = readMigrations().find(({ name }) => name === "create_usage_legacy");
    if (found === undefined) throw new Error("no such migration");
    return found.sql;
  };
  const functions = async (own: TestDatabase) => {
    const rows = await own.sql`
      select p.oid::regprocedure::text as name from pg_proc p
       where pronamespace = 'public'::regnamespace and proname like 'increment%' order by 1`;
    return rows.map((row) => row["name"]);
  };

  test("keeps it under another name, and the old name books into the ledger", async () => {
    const own = await openDatabase();
    try {
      await own.sql`drop function public.increment_token_usage(text, bigint)`;
      await own.sql.unsafe(`
        create function public.increment_token_usage(p_tenant_id uuid, p_tokens integer) returns boolean
        language sql as 'select true'`);
      await own.sql.unsafe(migration()).simple();
      await own.sql.unsafe(migration()).simple();
      expect(await functions(own)).toEqual([
        "increment_embedding_token_usage(text,bigint)",
        "increment_token_usage(text,bigint)",
        "increment_token_usage_before_worker(uuid,integer)",
      ]);
      await own.sql`select public.increment_token_usage('acme', 4)`;
      const [row] =
        await own.sql`select tokens::text from worker.usage_totals where tenant = 'acme'`;
      expect(row).toEqual({ tokens: "4" });
    } finally {
      await own.close();
    }
  });
});
