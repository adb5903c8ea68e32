import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cachedHealth } from "../../src/lib/ops/cached-health.ts";
import { type Health, probeBackends } from "../../src/lib/ops/probe-backends.ts";
import { cacheProbe } from "../../src/lib/ops/probes.redis.ts";
import { databaseProbe } from "../../src/lib/ops/probes.supabase.ts";
import { connectRedis } from "../../src/lib/runtime/connect.redis.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openDatabase, openRedis, type TestDatabase, type TestRedis } from "../support/stack.ts";

const clock = { now: Date.now };
const watchedJobs = [{ id: "daily_reconciliation", schedule: "0 2 * * *", isCritical: true }];
/** What the requirement promises to whoever asks. */
const ANSWER_MS_MAX = 1000;

let server: TestRedis;
let database: TestDatabase;
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  [server, database] = await Promise.all([openRedis(), openDatabase()]);
});
afterAll(async () => {
  for (const close of closing) await close();
  await Promise.all([server?.close(), database?.close()]);
});

/** Probes through the real adapters; `rest` asks over the REST interface of Upstash. */
async function openHealth(rest = false, supabaseUrl?: string): Promise<() => Promise<Health>> {
  const { url, key } = await database.supabase();
  const redis = connectRedis(rest ? { upstash: server.upstash } : { redisUrl: server.url });
  const { rpc, close } = createRpc({ url: supabaseUrl ?? url, key });
  closing.push(() => redis.close(), close);
  const probes = { ...cacheProbe(redis), ...databaseProbe(rpc) };
  return () => probeBackends({ clock, probes, watchedJobs });
}

/** Connections are made on first use, and a cold one may take longer than a probe. */
async function warm(check: () => Promise<Health>): Promise<Health> {
  let health = await check();
  for (let attempt = 0; attempt < 20 && Object.values(health).includes("unavailable"); attempt++)
    health = await check();
  return health;
}

describe.each([false, true])("real backends, over REST: %s", (rest) => {
  test("are available on a fresh installation", async () => {
    const health = await warm(await openHealth(rest));
    expect(health).toMatchObject({ scheduler: "available" });
    expect(health.cache).not.toBe("unavailable");
    expect(health.database).not.toBe("unavailable");
  });

  test("that hang are unavailable within a second, and come back", async () => {
    const check = await openHealth(rest);
    await warm(check);
    server.freeze();
    const startedAt = performance.now();
    const hung = await check();
    const tookMs = performance.now() - startedAt;
    server.thaw();
    expect(hung).toMatchObject({ cache: "unavailable" });
    expect(hung.database).not.toBe("unavailable");
    expect(tookMs).toBeLessThan(ANSWER_MS_MAX);
    expect((await warm(check)).cache).not.toBe("unavailable");
  });
});

test("a database that is not there is unavailable, and so is what it knows of the scheduler", async () => {
  const health = await (await openHealth(false, "http://127.0.0.1:1"))();
  expect(health).toMatchObject({ database: "unavailable", scheduler: "unavailable" });
});

test("a database whose last slots have no run has a scheduler that is unavailable", async () => {
  await database.sql`update worker.installations set installed_at = now() - interval '30 days'`;
  const check = await openHealth();
  await warm(check);
  expect(await check()).toMatchObject({ scheduler: "unavailable" });
});

test("a thousand requests ask Redis once", async () => {
  const check = await openHealth();
  await warm(check);
  let asked = 0;
  const cached = cachedHealth(clock, () => {
    asked += 1;
    return check();
  });
  await Promise.all(Array.from({ length: 1000 }, () => cached.read()));
  expect(asked).toBe(1);
});
