import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { keysOf, periodOf, SHARD_COUNT, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { openDatabase, openRedis, type TestDatabase, type TestRedis } from "../support/stack.ts";
import { openWorkerQueues, startWorker, type TestWorker } from "../support/worker.ts";

/**
 * Counters are tampered with and expire while the real functions book, consolidate and observe every second, and the
 * worker process is killed twice. In the end every counter equals the ledger, and the ledger what was recorded.
 */
const ROUNDS = 24;
const KILLED_AT = [8, 16];
const signal = new AbortController().signal;
const period = periodOf(Date.now());
const tenants = Array.from({ length: 60 }, () => randomUUID());

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

test("kills, foreign writers and expired counters: both sides end equal, and nothing is invented", async () => {
  const { url, key } = await database.supabase();
  const env = {
    SUPABASE_URL: url,
    SUPABASE_KEY: key,
    REDIS_URL: redis.url,
    AzureWebJobsStorage: queues.connectionString,
    RECONCILIATION_SCHEDULE_DAILY: "*/2 * * * * *",
    RECONCILIATION_SCHEDULE_WEEKLY: "* * * * * *",
    USAGE_OBSERVE_SCHEDULE: "* * * * * *",
    USAGE_LEASE_TTL_MS: "5000",
    JOB_LEASE_MS: "3000",
  };
  worker = await startWorker(env);
  const driver = createIoredisDriver({ url: redis.url });
  const producer = createUsageProducer({ redis: driver });
  const recorded = new Map<string, number>();
  const record = async (round: number): Promise<void> => {
    const uses = tenants.map((tenant, i) => ({
      tenant,
      tokens: 1 + ((round * 31 + i) % 400),
      requestId: randomUUID(),
      occurredAt: Date.now(),
      type: "llm" as const,
    }));
    await producer.recordAll(uses, signal);
    for (const { tenant, tokens } of uses)
      recorded.set(tenant, (recorded.get(tenant) ?? 0) + tokens);
  };
  const tamper = async (round: number): Promise<void> => {
    const tenant = tenants[round % tenants.length] ?? "";
    const counter = keysOf(shardOf(tenant)).counter(period);
    const amount = String(round % 2 === 0 ? 333 : -77);
    await driver.command(["HINCRBY", counter, tenant, amount], signal);
  };

  for (let round = 0; round < ROUNDS; round += 1) {
    await record(round);
    await tamper(round);
    if (round === ROUNDS / 2) {
      const all = Array.from({ length: SHARD_COUNT }, (_, shard) => keysOf(shard).counter(period));
      await driver.pipeline(
        all.map((counter) => ["DEL", counter] as const),
        signal,
      );
    }
    if (KILLED_AT.includes(round)) {
      await worker.child.kill();
      worker = await startWorker(env);
    }
  }

  const counters = async () => {
    const keys = tenants.map(
      (tenant) => [keysOf(shardOf(tenant)).counter(period), tenant] as const,
    );
    const replies = await driver.pipeline(
      keys.map(([counter, tenant]) => ["HGET", counter, tenant] as const),
      signal,
    );
    return new Map(tenants.map((tenant, i) => [tenant, Number(replies[i])]));
  };
  await expect.poll(counters, { timeout: 60_000, interval: 250 }).toEqual(recorded);
  await expect
    .poll(unsettled, { timeout: 30_000, interval: 250 })
    .toEqual({ waiting: 0, planned: 0 });
  const [check] = await database.sql`
    select (select sum(tokens) from worker.usage_totals)::int as booked,
           (select count(*) from worker.usage_ledger where reason like 'adjust:%')::int as adjusted,
           (select count(*) from worker.usage_gaps)::int as gaps,
           (select count(*) > 0 from worker.usage_observations) as observed,
           (select count(*) > 0 from worker.usage_drifts where state = 'repaired') as repaired`;
  const sum = [...recorded.values()].reduce((a, b) => a + b, 0);
  expect(check).toEqual({ booked: sum, adjusted: 0, gaps: 0, observed: true, repaired: true });
  await driver.close();
}, 150_000);

async function unsettled(): Promise<unknown> {
  const [row] = await database.sql`
    select count(*) filter (where state in ('hold_for_approval', 'wait_for_quarantine'))::int as waiting,
           count(*) filter (where state = 'planned')::int as planned
      from worker.usage_drifts`;
  return row;
}
