import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";
import { decodeEntries } from "../../src/lib/usage/log-entry.ts";
import { dedupeBucketOf, keysOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { usageLog } from "../../src/lib/usage/usage-log.redis.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import type { UsageRecord } from "../../src/lib/usage/usage-record.ts";
import { openRedis, type TestRedis } from "../support/stack.ts";

const signal = new AbortController().signal;
const NEVER_READ = { inc: "", n: "0", cum: null, count: null, anchor: null } as const;
const AT = Date.now();

const use = (parts: Partial<UsageRecord> = {}): UsageRecord => ({
  tenant: "acme",
  tokens: 100,
  requestId: "r1",
  occurredAt: AT,
  type: "llm",
  model: "gpt-4o",
  ...parts,
});

let server: TestRedis;
beforeAll(async () => {
  server = await openRedis();
});
afterAll(() => server.close());

describe.each(["ioredis", "upstash"] as const)("recording through %s", (kind) => {
  let redis: RedisDriver;
  beforeAll(() => {
    redis =
      kind === "ioredis"
        ? createIoredisDriver({ url: server.url })
        : createUpstashDriver(server.upstash);
  });
  afterAll(() => redis.close());
  beforeEach(() => server.flush());

  const keys = keysOf(shardOf("acme"));
  const raw = (...command: [string, ...string[]]) => redis.command(command, signal);
  const logOf = async (tenant: string) => {
    const page = { shard: shardOf(tenant), cursor: NEVER_READ, max: 1000 };
    const { rows } = await usageLog(redis).read(page, signal);
    return decodeEntries(rows, { n: "0", cum: "0", count: "0", anchor: null });
  };

  test("a use is counted once, however often it is sent", async () => {
    const producer = createUsageProducer({ redis });
    const first = await producer.record(use(), signal);
    const again = await producer.record(use(), signal);
    expect(first).toMatchObject({ outcome: "recorded", tenantTotal: "100", n: "1" });
    expect(again).toMatchObject({ outcome: "duplicate", tenantTotal: "100" });
    expect((await logOf("acme")).uses).toHaveLength(1);
  });

  test("the entry carries everything that the ledger needs", async () => {
    const producer = createUsageProducer({ redis });
    await producer.record(use({ agentId: "a1", conversationId: "c1", tenant: "ñandú|x" }), signal);
    const { uses, bad, end } = await logOf("ñandú|x");
    expect(bad).toEqual([]);
    expect(uses).toMatchObject([
      {
        tenant: "ñandú|x",
        tokens: "100",
        type: "llm",
        model: "gpt-4o",
        agent: "a1",
        conversation: "c1",
      },
    ]);
    expect(end).toMatchObject({ n: "1", cum: "100", count: "1" });
  });

  test("many records travel in one call, and each has its own outcome", async () => {
    const producer = createUsageProducer({ redis });
    const records = Array.from({ length: 50 }, (_, i) =>
      use({ tenant: `t${i % 7}`, requestId: `r${i % 40}-${i % 7}`, tokens: i }),
    );
    const outcomes = await producer.recordAll(records, signal);
    expect(outcomes).toHaveLength(50);
    const repeated = await producer.recordAll(records, signal);
    expect(repeated.every((o) => "outcome" in o && o.outcome === "duplicate")).toBe(true);
  });

  test.each(["007", "-0", "1.5", "1e3", "", " 1", "1000000000000001", "99999999999999999"])(
    "the amount %j is refused and leaves no trace",
    async (tokens) => {
      const producer = createUsageProducer({ redis });
      const broken = { ...use(), tokens: tokens as unknown as number };
      await expect(producer.record(broken, signal)).rejects.toMatchObject({
        code: "usage_record_refused",
      });
      expect(await raw("KEYS", "*")).toEqual([]);
    },
  );

  test("sums beyond 2^53 stay exact in counter, reply and log", async () => {
    const producer = createUsageProducer({ redis });
    const max = 1_000_000_000_000_000;
    for (let i = 0; i < 12; i += 1) {
      await producer.record(use({ tokens: max - (i % 2), requestId: `big${i}` }), signal);
    }
    const expected = String(12n * BigInt(max) - 6n);
    expect((await producer.record(use({ tokens: 0, requestId: "end" }), signal)).tenantTotal).toBe(
      expected,
    );
    const { end, uses } = await logOf("acme");
    expect(end.cum).toBe(expected);
    expect(uses).toHaveLength(13);
  });

  test("credits are subtracted", async () => {
    const producer = createUsageProducer({ redis });
    await producer.record(use(), signal);
    const credit = await producer.record(use({ tokens: -30, requestId: "credit" }), signal);
    expect(credit.tenantTotal).toBe("70");
  });

  test("counters and dedupe sets expire, the log does not", async () => {
    await createUsageProducer({ redis }).record(use(), signal);
    const bucket = keys.dedupe(dedupeBucketOf(AT));
    expect(Number(await raw("TTL", bucket))).toBeGreaterThan(7000);
    const month = Number(new Date(AT).toISOString().slice(0, 7).replace("-", ""));
    expect(Number(await raw("TTL", keys.counter(month)))).toBeGreaterThan(45 * 86_400);
    expect(await raw("TTL", keys.log)).toBe(-1);
    expect(await raw("TTL", keys.meta)).toBe(-1);
  });

  test("a foreign entry far ahead does not stop the recording", async () => {
    const producer = createUsageProducer({ redis });
    await producer.record(use(), signal);
    await raw("XADD", keys.log, "5000-7", "d", "garbage");
    await producer.record(use({ requestId: "r2" }), signal);
    const { uses, bad, end } = await logOf("acme");
    expect(uses).toHaveLength(2);
    expect(bad).toHaveLength(1);
    expect(end).toMatchObject({ n: "5001", cum: "200", count: "2" });
  });

  test("a lost meta hash goes on counting where the log ends", async () => {
    const first = createUsageProducer({ redis });
    await first.record(use(), signal);
    await first.record(use({ requestId: "r2" }), signal);
    await raw("DEL", keys.meta);
    await createUsageProducer({ redis }).record(use({ requestId: "r3" }), signal);
    const { end, uses } = await logOf("acme");
    expect(uses).toHaveLength(3);
    expect(end).toMatchObject({ n: "3", cum: "300", count: "3" });
  });

  test("a failed append undoes the counter and the event id, and the retry counts", async () => {
    const producer = createUsageProducer({ redis });
    await producer.record(use(), signal);
    await raw("XADD", keys.log, "18446744073709551615-18446744073709551615", "d", "the end");
    await expect(producer.record(use({ requestId: "r2" }), signal)).rejects.toThrow();
    expect(await raw("HGETALL", keys.counter(currentPeriod()))).toEqual(["acme", "100"]);
    expect(await raw("SCARD", keys.dedupe(dedupeBucketOf(AT)))).toBe(1);
    await raw("DEL", keys.log);
    expect(await producer.record(use({ requestId: "r2" }), signal)).toMatchObject({
      outcome: "recorded",
    });
  });

  test("a flush is noticed by the next write and healed by a replay", async () => {
    const producer = createUsageProducer({ redis });
    for (let i = 0; i < 5; i += 1) await producer.record(use({ requestId: `r${i}` }), signal);
    await server.flush();
    const next = await producer.record(use({ requestId: "after" }), signal);
    expect(next.hasReplayed).toBe(true);
    const { uses, markers } = await logOf("acme");
    expect(uses).toHaveLength(6);
    expect(uses.filter((entry) => entry.replayOf !== "")).toHaveLength(5);
    expect(markers).toMatchObject([{ lastN: "5", lastCum: "500", survivingN: "0" }]);
    expect((await producer.record(use({ requestId: "after" }), signal)).tenantTotal).toBe("600");
  });

  test("a rewind to an older state is noticed, and only what was lost is added again", async () => {
    const producer = createUsageProducer({ redis });
    for (let i = 0; i < 3; i += 1) await producer.record(use({ requestId: `r${i}` }), signal);
    const snapshot = await raw("HGETALL", keys.meta);
    const counter = await raw("HGET", keys.counter(currentPeriod()), "acme");
    for (let i = 3; i < 6; i += 1) await producer.record(use({ requestId: `r${i}` }), signal);
    await rewind(snapshot as string[], String(counter), 3);
    const next = await producer.record(use({ requestId: "after" }), signal);
    expect(next.hasReplayed).toBe(true);
    const { uses } = await logOf("acme");
    expect(new Set(uses.map((entry) => entry.uid)).size).toBe(7);
    expect(uses).toHaveLength(7);
  });

  test("a producer that is switched off records nothing and says so", async () => {
    const producer = createUsageProducer({ redis, isEnabled: false });
    await expect(producer.record(use(), signal)).rejects.toMatchObject({
      code: "usage_tracking_disabled",
    });
    expect(await raw("KEYS", "*")).toEqual([]);
  });

  const currentPeriod = () => Number(new Date(AT).toISOString().slice(0, 7).replace("-", ""));

  /** What restoring a snapshot does: the entries, event ids and numbers after it are gone. */
  async function rewind(meta: string[], counter: string, n: number): Promise<void> {
    await raw("DEL", keys.meta, keys.dedupe(dedupeBucketOf(AT)));
    await raw("HSET", keys.meta, ...meta);
    await raw("HSET", keys.counter(currentPeriod()), "acme", counter);
    const kept = (await raw("XRANGE", keys.log, "-", `${n}-0`)) as [string, string[]][];
    await raw("DEL", keys.log);
    for (const [id, fields] of kept) {
      await raw("XADD", keys.log, id, ...fields);
      const uid = fields[1]?.split("|")[1];
      if (uid) await raw("SADD", keys.dedupe(dedupeBucketOf(AT)), uid);
    }
  }
});

test("a full Redis refuses the use as a whole, and the retry counts once", async ({ skip }) => {
  if (server.kind !== "redis-server") skip("needs a real Redis: maxmemory");
  const redis = createIoredisDriver({ url: server.url });
  const producer = createUsageProducer({ redis });
  await server.flush();
  await producer.record(use({ requestId: "before" }), signal);
  await redis.command(["CONFIG", "SET", "maxmemory", "1"], signal);
  await expect(
    producer.record(use({ requestId: "full" }), AbortSignal.timeout(5000)),
  ).rejects.toMatchObject({
    code: "redis_unavailable",
  });
  await redis.command(["CONFIG", "SET", "maxmemory", "0"], signal);
  const after = await producer.record(use({ requestId: "full" }), signal);
  expect(after).toMatchObject({ outcome: "recorded", tenantTotal: "200" });
  await redis.close();
});
