import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { PENDING_KEY, pendingRecord } from "../support/legacy-world.ts";
import { openDatabase, openRedis, type TestDatabase, type TestRedis } from "../support/stack.ts";
import { openWorkerQueues, startWorker, type TestWorker } from "../support/worker.ts";

/**
 * Producers of the old kind count each use, book it directly, and put it into the pending set when that fails, while
 * the real functions drain and compare. The worker process is killed twice on the way. In the end the ledger holds
 * every use once, whichever lane it came through, and nothing is left to compare.
 */
const TENANTS = 40;
const USES = 1800;
const CHUNK = 30;
const KILLED_AFTER = [500, 1200];
const signal = new AbortController().signal;

let redis: TestRedis;
let database: TestDatabase;
let queues: Awaited<ReturnType<typeof openWorkerQueues>>;
let worker: TestWorker | undefined;

beforeAll(async () => {
  [redis, database, queues] = await Promise.all([openRedis(), openDatabase(), openWorkerQueues()]);
});
afterAll(async () => {
  await worker?.child.stop();
  await Promise.all([redis.close(), database.close(), queues.close()]);
});

test("two kills on the way, and every use of every lane is in the ledger once", async () => {
  const { url, key } = await database.supabase();
  const env = {
    SUPABASE_URL: url,
    SUPABASE_KEY: key,
    REDIS_URL: redis.url,
    AzureWebJobsStorage: queues.connectionString,
    RECONCILIATION_SCHEDULE_DAILY: "* * * * * *",
  };
  const driver = createIoredisDriver({ url: redis.url });
  const direct = createRpc({ url, key, schema: "public" });
  const used = new Map<string, bigint>();
  const kills = [...KILLED_AFTER];
  await direct.rpc("increment_token_usage", { p_tenant_id: "first", p_tokens: 0 }, signal); // wakes the API
  used.set("first", 0n);
  worker = await startWorker(env);
  try {
    for (let from = 0; from < USES; from += CHUNK) {
      const uses = Array.from({ length: CHUNK }, (_, i) => from + i);
      await Promise.all(uses.map((n) => produce(n)));
      if (kills[0] !== undefined && from >= kills[0]) {
        kills.shift();
        await worker.child.kill();
        worker = await startWorker(env);
      }
    }
    await expect.poll(booked, { timeout: 60_000, interval: 250 }).toEqual(used);
    await expect.poll(pending, { timeout: 20_000, interval: 250 }).toBe(0);
    await expect.poll(uncompared, { timeout: 20_000, interval: 250 }).toBe(0);
  } finally {
    await Promise.all([driver.close(), direct.close()]);
  }
  const { body } = await worker.get("/usage/legacy");
  expect(body).toMatchObject({ lanes: [{ lane: "log" }, { state: "on" }, { state: "on" }, {}] });
  const done = { status: "succeeded", counters: "compared", resets: 0 };
  expect(body["runs"]).toContainEqual(expect.objectContaining(done));

  async function produce(n: number): Promise<void> {
    const tenant = `tenant ${n % TENANTS} · ñ`;
    const tokens = n % 977;
    const counter = `${tenant}:counter:token_usage:type:llm:model:gpt:${n % 3}`;
    await driver.command(["INCRBY", counter, String(tokens)], signal);
    if (n % 4 === 0) {
      const record = pendingRecord({ tenant_id: tenant, tokens, operation: randomUUID() });
      await driver.command(["SADD", PENDING_KEY, JSON.stringify(record)], signal);
    } else {
      const args = { p_tenant_id: tenant, p_tokens: tokens };
      await direct.rpc("increment_token_usage", args, signal);
    }
    used.set(tenant, (used.get(tenant) ?? 0n) + BigInt(tokens));
  }

  async function pending(): Promise<number> {
    return Number(await driver.command(["SCARD", PENDING_KEY], signal));
  }
}, 150_000);

async function booked(): Promise<Map<string, bigint>> {
  const rows = await database.sql`
    select tenant, sum(tokens)::text as tokens from worker.usage_totals group by tenant`;
  return new Map(rows.map((row) => [String(row["tenant"]), BigInt(String(row["tokens"]))]));
}

/** Tenants with something that moved since their comparison. */
async function uncompared(): Promise<number> {
  const rows = await database.sql`
    select tenant from worker.usage_legacy_tenants
     where grown <> compared_grown or direct <> compared_direct or pending <> compared_pending`;
  return rows.length;
}
