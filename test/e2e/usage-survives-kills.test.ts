import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";
import { createUsageProducer, type UsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { openDatabase, openRedis, type TestDatabase, type TestRedis } from "../support/stack.ts";
import { openWorkerQueues, startWorker, type TestWorker } from "../support/worker.ts";

/**
 * The story of the service in one test. A product records usage through both drivers while the real functions, in the
 * embedded host, book it into Postgres. The worker process is killed twice on the way, as a deployment or a crash
 * would, and in the end the ledger holds exactly what was recorded, for every tenant.
 */
const TENANTS = 210;
const RECORDS = 12_000;
const CHUNK = 40;
const KILLED_AFTER = [0.3, 0.65];
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

const settings = async () => {
  const { url, key } = await database.supabase();
  return {
    SUPABASE_URL: url,
    SUPABASE_KEY: key,
    UPSTASH_REDIS_REST_URL: redis.upstash.url,
    UPSTASH_REDIS_REST_TOKEN: redis.upstash.token,
    AzureWebJobsStorage: queues.connectionString,
    // Every few seconds, so that a run is under way when the worker is killed; more often than it is worked off, the
    // queue would grow on a busy machine. Leases are short enough to be taken over soon.
    RECONCILIATION_SCHEDULE_DAILY: "*/3 * * * * *",
    USAGE_LEASE_TTL_MS: "5000",
    JOB_LEASE_MS: "3000",
    USAGE_BATCH_MAX: "100",
  };
};

test("two kills on the way, and every tenant's ledger equals what was recorded", async () => {
  const env = await settings();
  worker = await startWorker(env);
  const drivers = [createIoredisDriver({ url: redis.url }), createUpstashDriver(redis.upstash)];
  const producers = drivers.map((driver) => createUsageProducer({ redis: driver }));
  const recorded = new Map<string, bigint>();
  const kills = KILLED_AFTER.map((share) => Math.floor(RECORDS * share));

  for (let from = 0; from < RECORDS; from += CHUNK) {
    await recordSome(producers[(from / CHUNK) % 2], from, recorded);
    if (kills[0] !== undefined && from >= kills[0]) {
      kills.shift();
      await worker.child.kill();
      worker = await startWorker(env);
    }
  }
  await Promise.all(drivers.map((driver) => driver.close()));

  expect(kills).toEqual([]);
  await expect.poll(booked, { timeout: 60_000, interval: 250 }).toEqual(recorded);
  const [check] = await database.sql`
    select (select count(*) from worker.usage_events)::int as events,
           (select sum(tokens) from worker.usage_ledger)::text as ledger,
           (select count(*) from worker.usage_quarantine)::int as quarantined,
           (select count(*) from worker.usage_gaps)::int as gaps`;
  const sum = [...recorded.values()].reduce((a, b) => a + b, 0n);
  expect(check).toEqual({ events: RECORDS, ledger: String(sum), quarantined: 0, gaps: 0 });

  const [tenant = ""] = recorded.keys();
  const answer = await worker.get(`/usage/${encodeURIComponent(tenant)}`);
  expect(answer).toMatchObject({
    status: 200,
    body: {
      tokens: String(recorded.get(tenant)),
      recorded: String(recorded.get(tenant)),
      pending: "0",
    },
  });
}, 150_000);

async function recordSome(
  producer: UsageProducer | undefined,
  from: number,
  recorded: Map<string, bigint>,
): Promise<void> {
  const uses = Array.from({ length: CHUNK }, (_, i) => ({
    tenant: `tenant ${(from + i) % TENANTS} · ñ`,
    tokens: ((from + i) % 977) - 20,
    requestId: randomUUID(),
    occurredAt: Date.now(),
    type: "llm" as const,
    model: i % 3 === 0 ? "gpt-4o" : "gpt-4o-mini",
  }));
  const outcomes = (await producer?.recordAll(uses, signal)) ?? [];
  expect(outcomes.every((outcome) => "outcome" in outcome)).toBe(true);
  // Every tenth is sent again, as a client that lost the answer would.
  await producer?.recordAll(
    uses.filter((_, i) => i % 10 === 0),
    signal,
  );
  for (const { tenant, tokens } of uses) {
    recorded.set(tenant, (recorded.get(tenant) ?? 0n) + BigInt(tokens));
  }
}

async function booked(): Promise<Map<string, bigint>> {
  const rows = await database.sql`
    select tenant, sum(tokens)::text as tokens from worker.usage_totals group by tenant`;
  return new Map(rows.map((row) => [String(row["tenant"]), BigInt(String(row["tokens"]))]));
}
