import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { redisSnapshots } from "../support/redis-snapshot.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

/** The faults that operators meet, one by one. In each, nothing is lost or doubled, or the loss has its exact size. */
let world: UsageWorld;
beforeAll(async () => {
  world = await openUsageWorld({ batchMax: 50 });
});
afterAll(() => world.close());

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

const recordMany = async (tenant: string, count: number, tokens = 10): Promise<void> => {
  const uses = Array.from({ length: count }, () => world.use({ tenant, tokens }));
  await world.producer.recordAll(uses, signal);
};

const openGap = async (tenant: string): Promise<string> => {
  const [row] = await world.database.sql`
    select coalesce(sum(tokens_lost - recovered), 0)::text as open
      from worker.usage_gaps where shard = ${shardOf(tenant)}`;
  return String(row?.["open"]);
};

describe("the database is restored from a backup", () => {
  const TABLES = [
    "usage_shards",
    "usage_batches",
    "usage_events",
    "usage_ledger",
    "usage_totals",
    "usage_quarantine",
    "usage_gaps",
    "usage_lineages",
  ];
  const backUp = () =>
    world.database.sql.unsafe(`
      drop schema if exists backup cascade; create schema backup;
      ${TABLES.map((table) => `create table backup.${table} as select * from worker.${table};`).join("\n")}`);
  const restore = () =>
    world.database.sql.unsafe(
      TABLES.map(
        (table) => `truncate worker.${table} cascade;
          insert into worker.${table} overriding system value select * from backup.${table};`,
      ).join("\n"),
    );

  test("and Redis still has the entries: it heals by reading again", async () => {
    const acme = randomUUID();
    await recordMany(acme, 60);
    await world.reconcile();
    await backUp();
    await recordMany(acme, 140);
    await world.reconcile();
    expect(await world.tokensOf(acme)).toBe("2000");
    await restore();
    expect(await world.tokensOf(acme)).toBe("600");
    await world.reconcile();
    expect(await world.tokensOf(acme)).toBe("2000");
    expect(await openGap(acme)).toBe("0");
  });

  test("and Redis was trimmed meanwhile: the loss is a gap of its exact size", async () => {
    const acme = randomUUID();
    await recordMany(acme, 60);
    await world.reconcile();
    await backUp();
    await recordMany(acme, 140);
    await world.reconcile();
    const { log, meta } = keysOf(shardOf(acme));
    const n = String(await world.redis.command(["HGET", meta, "n"], signal));
    await world.redis.command(["XTRIM", log, "MINID", `${n}-0`], signal);
    await restore();
    await world.reconcile();
    // The newest entry is still there; the 139 before it are gone from both sides.
    expect(await world.tokensOf(acme)).toBe("610");
    expect(await openGap(acme)).toBe("1390");
  });
});

describe("clocks are wrong", () => {
  test.each([
    ["ten minutes ahead", 10 * MINUTE_MS],
    ["ten minutes behind", -10 * MINUTE_MS],
    ["three days behind", -3 * DAY_MS],
    ["forty days ahead", 40 * DAY_MS],
  ])("%s: everything is booked, credits included", async (_, offset) => {
    const acme = randomUUID();
    const occurredAt = Date.now() + offset;
    for (const tokens of [100, -30, 7]) await world.record({ tenant: acme, tokens, occurredAt });
    await world.reconcile();
    await world.reconcile();
    expect(await world.tokensOf(acme)).toBe("77");
    const total = await world.reads.total(acme, periodOf(occurredAt), signal);
    expect(total.used).toBe("77");
  });

  test("a use of a month that has not begun is billed in the month it was accepted in", async () => {
    const acme = randomUUID();
    const ahead = Date.now() + 40 * DAY_MS;
    await world.record({ tenant: acme, tokens: 9, occurredAt: ahead });
    await world.reconcile();
    const [row] = await world.database.sql`
      select period, usage_period, reason from worker.usage_ledger where tenant = ${acme}`;
    expect(row).toEqual({
      period: periodOf(Date.now()),
      usage_period: periodOf(ahead),
      reason: "future",
    });
  });
});

test("the last millisecond of a month and the first of the next are two months", async () => {
  const acme = randomUUID();
  const now = new Date();
  const start = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1);
  await world.record({ tenant: acme, tokens: 1, occurredAt: start - 1 });
  await world.record({ tenant: acme, tokens: 2, occurredAt: start });
  await world.reconcile();
  expect((await world.reads.total(acme, periodOf(start - 1), signal)).tokens).toBe("1");
  expect((await world.reads.total(acme, periodOf(start), signal)).tokens).toBe("2");
});

test("a tenant that was deleted still owes what it used", async () => {
  const gone = randomUUID();
  await recordMany(gone, 5);
  await world.redis.command(
    ["HDEL", keysOf(shardOf(gone)).counter(periodOf(Date.now())), gone],
    signal,
  );
  await world.reconcile();
  expect(await world.tokensOf(gone)).toBe("50");
});

test("six failovers that lose the last writes, with live producers: nothing is lost", async () => {
  const acme = randomUUID();
  const snapshots = redisSnapshots(world.server.url);
  const producer = createUsageProducer({ redis: world.redis, ringMs: 600_000, verifyMs: 0 });
  const uses = () => Array.from({ length: 150 }, () => world.use({ tenant: acme, tokens: 3 }));
  for (let failover = 0; failover < 6; failover += 1) {
    await producer.recordAll(uses(), signal);
    const replica = await snapshots.take();
    await producer.recordAll(uses(), signal);
    await Promise.all([world.reconcile(), snapshots.restore(replica)]);
    await producer.record(world.use({ tenant: acme, tokens: 0 }), signal);
  }
  await world.reconcile();
  snapshots.close();
  expect(await world.tokensOf(acme)).toBe(String(6 * 300 * 3));
});

test("a cold producer after a restore: what nobody remembers is noticed by the worker's cursor", async () => {
  const acme = randomUUID();
  const snapshots = redisSnapshots(world.server.url);
  await recordMany(acme, 10);
  await world.reconcile();
  const old = await snapshots.take();
  await recordMany(acme, 20);
  await world.reconcile();
  await snapshots.restore(old);
  const cold = createUsageProducer({ redis: world.redis });
  await cold.record(world.use({ tenant: acme, tokens: 1000 }), signal);
  await world.reconcile();
  snapshots.close();
  // Everything was booked before the restore, so nothing is missing; the new use is booked once.
  expect(await world.tokensOf(acme)).toBe("1300");
});
