import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AppError } from "../../src/lib/kernel/errors.ts";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { logWitness } from "../../src/lib/usage/observe-shards.redis.ts";
import { type ObserveDeps, observeShards } from "../../src/lib/usage/observe-shards.ts";
import {
  type Observation,
  planChecks,
  planWrites,
  type Verdict,
} from "../../src/lib/usage/plan-observations.ts";
import { keysOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { createUsageProducer, type UsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { failCalls, Killed } from "../support/failing-calls.ts";
import { redisSnapshots } from "../support/redis-snapshot.ts";
import { testRun } from "../support/test-run.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

describe("what is asked and what is written", () => {
  const last: Observation = { shard: 3, inc: "a", n: "5", cum: "50", count: "5", anchor: null };
  const kept = { n: "0", cum: "0", count: "0" };
  const verdict = (parts: Partial<Verdict>): Verdict => ({
    shard: 3,
    kind: "confirmed",
    head: last,
    kept,
    last,
    ...parts,
  });

  test("every shard is asked once, and once more for each lineage that nobody settled", () => {
    const checks = planChecks([last, { ...last, inc: "b" }]);
    expect(checks).toHaveLength(257);
    expect(checks.filter(({ shard }) => shard === 3)).toMatchObject([
      { last: { inc: "a" } },
      { last: { inc: "b" } },
    ]);
    expect(checks[0]).toEqual({ shard: 0, last: undefined });
  });

  test.each([
    ["a log that did not move", verdict({}), 0],
    ["a log that moved", verdict({ head: { ...last, n: "6" } }), 1],
    ["a log seen for the first time", verdict({ last: undefined }), 1],
    ["a shard that nobody uses", verdict({ last: undefined, head: { ...last, inc: "" } }), 0],
    ["a lineage that ended", verdict({ kind: "ended", head: { ...last, inc: "" } }), 1],
    ["a contradiction", verdict({ kind: "contradicted" }), 1],
    ["a shard that did not answer", new AppError("permanent", "redis_refused"), 0],
  ])("%s is written %#", (_, answer, writes) => {
    expect(planWrites([answer])).toHaveLength(writes);
  });
});

describe("the observer", () => {
  let world: UsageWorld;
  let snapshots: ReturnType<typeof redisSnapshots>;
  beforeAll(async () => {
    world = await openUsageWorld({ batchMax: 100 });
    snapshots = redisSnapshots(world.server.url);
  });
  afterAll(async () => {
    snapshots.close();
    await world.close();
  });
  /** A log of its own for each test: Redis and what is known about it start empty. */
  beforeEach(async () => {
    await world.server.flush();
    await world.database.sql`truncate worker.usage_observations, worker.usage_gaps`;
  });

  const observe = async (deps: ObserveDeps = world.deps) => {
    const run = testRun();
    await observeShards(deps, run);
    return run;
  };
  /** A producer that knows nothing of what was recorded before. */
  const stranger = (): UsageProducer => createUsageProducer({ redis: world.redis });
  const record = (tenant: string, tokens: number, producer: UsageProducer = stranger()) =>
    producer.record(world.use({ tenant, tokens }), signal);
  const gapsOf = async (tenant: string) =>
    world.database.sql`
      select cause, tokens_lost::text as lost, recovered::text, entries_lost::text as entries,
             from_n::text as from, to_n::text as to
        from worker.usage_gaps where shard = ${shardOf(tenant)} order by id`;
  const observedN = async (tenant: string): Promise<string[]> => {
    const rows = await world.database.sql`
      select n::text from worker.usage_observations where shard = ${shardOf(tenant)}`;
    return rows.map((row) => String(row["n"]));
  };
  const lineageOf = async (tenant: string) =>
    world.redis.command(["HGET", keysOf(shardOf(tenant)).meta, "inc"], signal);
  /** Five uses of 10 booked, then a snapshot, then five uses of 100 that are observed and lost with the snapshot. */
  const rewound = async (): Promise<string> => {
    const tenant = randomUUID();
    for (let i = 0; i < 5; i += 1) await record(tenant, 10);
    await world.reconcileTenant(tenant);
    const before = await snapshots.take();
    for (let i = 0; i < 5; i += 1) await record(tenant, 100);
    await observe();
    await snapshots.restore(before);
    return tenant;
  };

  test("remembers how far every log is, and writes nothing while nothing moves", async () => {
    const acme = randomUUID();
    await record(acme, 10);
    expect((await observe()).notes).toMatchObject({ observed: 1, contradicted: 0, unobserved: 0 });
    expect((await observe()).notes).toMatchObject({ observed: 0, contradicted: 0 });
    const { n } = await record(acme, 10);
    expect((await observe()).notes).toMatchObject({ observed: 1 });
    expect(await observedN(acme)).toEqual([n]);
    expect(await gapsOf(acme)).toEqual([]);
  });

  test("finds a rewound log whose producers all died, before anybody drains or writes", async () => {
    const acme = await rewound();
    const lineage = await lineageOf(acme);
    const run = await observe();
    expect(run.notes).toMatchObject({ contradicted: 1 });
    expect(run.lines).toMatchObject([
      { level: "error", event: "usage_log_contradicts_observation" },
    ]);
    expect(await lineageOf(acme)).not.toBe(lineage);
    expect(await gapsOf(acme)).toMatchObject([
      { cause: "redis_rewind", lost: "500", recovered: "0", entries: "5" },
    ]);
    await world.reconcileTenant(acme);
    await observe();
    await world.reconcileTenant(acme);
    expect(await gapsOf(acme)).toHaveLength(1);
    expect(await world.tokensOf(acme)).toBe("50");
  });

  test("finds it too when writers that knew nothing went past what was observed, to the token", async () => {
    const acme = await rewound();
    for (let i = 0; i < 8; i += 1) await record(acme, 3);
    expect((await observe()).notes).toMatchObject({ contradicted: 1 });
    expect(await gapsOf(acme)).toMatchObject([{ lost: "500", entries: "5" }]);
    await world.reconcileTenant(acme);
    expect(await world.tokensOf(acme)).toBe("74");
    expect(await gapsOf(acme)).toHaveLength(1);
    const [next] = await observedN(acme);
    expect(Number(next)).toBeGreaterThanOrEqual(13);
  });

  test("is not deceived by another history with the same number and the same sum", async () => {
    const acme = await rewound();
    for (let i = 0; i < 5; i += 1) await record(acme, 100);
    expect((await observe()).notes).toMatchObject({ contradicted: 1 });
    expect(await gapsOf(acme)).toMatchObject([{ lost: "500" }]);
    await world.reconcileTenant(acme);
    expect(await world.tokensOf(acme)).toBe("550");
  });

  test("counts as lost only what was not booked", async () => {
    const acme = randomUUID();
    await record(acme, 10);
    const before = await snapshots.take();
    await record(acme, 20);
    await world.reconcileTenant(acme);
    await record(acme, 40);
    await observe();
    await snapshots.restore(before);
    await observe();
    expect(await gapsOf(acme)).toMatchObject([{ lost: "40", entries: "1", from: "3", to: "3" }]);
    await world.reconcileTenant(acme);
    expect(await world.tokensOf(acme)).toBe("30");
    expect(await gapsOf(acme)).toHaveLength(1);
  });

  test("counts as lost only what did not survive, also when nothing was booked yet", async () => {
    for (const strangers of [0, 9]) {
      const acme = randomUUID();
      for (let i = 0; i < 3; i += 1) await record(acme, 10);
      const before = await snapshots.take();
      for (let i = 0; i < 4; i += 1) await record(acme, 100);
      await observe();
      await snapshots.restore(before);
      for (let i = 0; i < strangers; i += 1) await record(acme, 1);
      await observe();
      expect(await gapsOf(acme)).toMatchObject([{ lost: "400", entries: "4", from: "4", to: "7" }]);
      await world.reconcileTenant(acme);
      expect(await gapsOf(acme)).toHaveLength(1);
      expect(await world.tokensOf(acme)).toBe(String(30 + strangers));
    }
  });

  test("makes live producers replay what was lost, which closes the gap", async () => {
    const acme = randomUUID();
    const alive = stranger();
    await record(acme, 10, alive);
    await world.reconcileTenant(acme);
    const before = await snapshots.take();
    await record(acme, 70, alive);
    await observe();
    await snapshots.restore(before);
    await observe();
    await record(acme, 1, alive);
    await world.reconcileTenant(acme);
    expect(await gapsOf(acme)).toMatchObject([{ lost: "70", recovered: "70" }]);
    expect(await world.tokensOf(acme)).toBe("81");
  });

  test("writes down a flush at once, and the fork that follows does not count it again", async () => {
    const acme = randomUUID();
    await record(acme, 100);
    await world.reconcileTenant(acme);
    await record(acme, 40);
    await observe();
    await world.server.flush();
    await observe();
    expect(await gapsOf(acme)).toMatchObject([{ lost: "40", entries: "1" }]);
    expect(await observedN(acme)).toEqual([]);
    await world.reconcileTenant(acme);
    expect(await gapsOf(acme)).toHaveLength(1);
    expect(await world.tokensOf(acme)).toBe("100");
  });

  test("settles a lineage that a producer ended: what is still there is not lost", async () => {
    const acme = randomUUID();
    await record(acme, 10);
    await record(acme, 20);
    await observe();
    const { meta } = keysOf(shardOf(acme));
    await world.redis.command(["HSET", meta, "inc", "ffffffff"], signal);
    await observe();
    expect(await gapsOf(acme)).toEqual([]);
    const rows = await world.database.sql`
      select inc from worker.usage_observations where shard = ${shardOf(acme)}`;
    expect(rows).toMatchObject([{ inc: "ffffffff" }]);
    await world.reconcileTenant(acme);
    expect(await world.tokensOf(acme)).toBe("30");
  });

  test("and the producer that noticed agree on one gap", async () => {
    const acme = randomUUID();
    const alive = stranger();
    await record(acme, 10, alive);
    await world.reconcileTenant(acme);
    const before = await snapshots.take();
    for (let i = 0; i < 3; i += 1) await record(acme, 100, alive);
    await observe();
    await snapshots.restore(before);
    await record(acme, 1, alive);
    await observe();
    await world.reconcileTenant(acme);
    const gaps = await gapsOf(acme);
    expect(gaps).toMatchObject([{ cause: "redis_rewind", lost: "300", recovered: "300" }]);
    expect(await world.tokensOf(acme)).toBe("311");
  });

  test("takes trimmed and deleted entries for no contradiction", async () => {
    const acme = randomUUID();
    const { log } = keysOf(shardOf(acme));
    await record(acme, 10);
    const { n } = await record(acme, 20);
    await observe();
    const later = await record(acme, 30);
    await world.reconcileTenant(acme);
    await world.redis.command(["XTRIM", log, "MINID", `${later.n}-0`], signal);
    expect((await observe()).notes).toMatchObject({ contradicted: 0, observed: 1 });
    await record(acme, 1);
    await world.redis.command(["XDEL", log, `${later.n}-0`], signal);
    expect((await observe()).notes).toMatchObject({ contradicted: 0 });
    await world.redis.command(["DEL", log], signal);
    expect((await observe()).notes).toMatchObject({ contradicted: 0 });
    expect(await gapsOf(acme)).toEqual([]);
    expect(n).toBe("2");
  });

  test("accuses no log whose head has no entry, after a lineage was started", async () => {
    const acme = randomUUID();
    await record(acme, 10);
    await world.reconcileTenant(acme);
    await world.server.flush();
    await world.reconcileTenant(acme);
    await observe();
    await record(acme, 5);
    await record(acme, 5);
    expect((await observe()).notes).toMatchObject({ contradicted: 0 });
    await world.reconcileTenant(acme);
    expect(await gapsOf(acme)).toEqual([]);
    expect(await world.tokensOf(acme)).toBe("20");
  });

  test("verifies observations of an older version, which knew no anchor", async () => {
    const acme = await rewound();
    await world.database.sql`update worker.usage_observations set anchor = null`;
    await observe();
    expect(await gapsOf(acme)).toMatchObject([{ lost: "500", entries: "5" }]);
  });

  test("stays exact beyond 2^53", async () => {
    const acme = randomUUID();
    for (let i = 0; i < 12; i += 1) await record(acme, 999_999_999_999_999);
    await observe();
    await record(acme, 1);
    expect((await observe()).notes).toMatchObject({ contradicted: 0, observed: 1 });
    const before = await snapshots.take();
    for (let i = 0; i < 11; i += 1) await record(acme, 999_999_999_999_999);
    await observe();
    await snapshots.restore(before);
    await observe();
    expect(await gapsOf(acme)).toMatchObject([{ lost: "10999999999999989" }]);
  });

  test("of two at the same time writes one gap and starts one lineage", async () => {
    const acme = await rewound();
    await Promise.all(Array.from({ length: 5 }, () => observe()));
    expect(await gapsOf(acme)).toMatchObject([{ lost: "500" }]);
    await world.reconcileTenant(acme);
    expect(await gapsOf(acme)).toHaveLength(1);
  });

  test("that dies between Redis and the database leaves a gap of the right size all the same", async () => {
    for (const next of ["observer", "drain"]) {
      const acme = await rewound();
      for (let i = 0; i < 8; i += 1) await record(acme, 3);
      const saboteur = failCalls(2, "after");
      const dying = {
        ...world.deps,
        logWitness: saboteur.wrap(world.deps.logWitness),
        observations: saboteur.wrap(world.deps.observations),
      };
      await expect(observe(dying)).rejects.toThrow(Killed);
      expect(await gapsOf(acme)).toEqual([]);
      if (next === "observer") await observe();
      await world.reconcileTenant(acme);
      await observe();
      expect(await gapsOf(acme), next).toMatchObject([{ lost: "500" }]);
      expect(await world.tokensOf(acme)).toBe("74");
    }
  });

  test("is asked by the dispatcher before it plans, so that no lost log is overlooked", async () => {
    const acme = await rewound();
    for (let i = 0; i < 8; i += 1) await record(acme, 3);
    await dispatchShards(world.deps, testRun());
    world.queue.splice(0);
    expect(await gapsOf(acme)).toMatchObject([{ lost: "500" }]);
  });

  test("goes on with the other shards when one cannot be read", async () => {
    const acme = randomUUID();
    const broken = (shardOf(acme) + 1) % 256;
    await record(acme, 10);
    await world.redis.command(["SET", keysOf(broken).meta, "not a hash"], signal);
    const run = await observe();
    expect(run.notes).toMatchObject({ observed: 1, unobserved: 1 });
    expect(run.lines).toMatchObject([
      { level: "warn", event: "usage_shard_unobserved", fields: { shard: broken } },
    ]);
  });

  test("asks over REST as well", async () => {
    const upstash = createUpstashDriver(world.server.upstash);
    const acme = await rewound();
    for (let i = 0; i < 8; i += 1) await record(acme, 3);
    await observe({ ...world.deps, logWitness: logWitness(upstash) });
    expect(await gapsOf(acme)).toMatchObject([{ lost: "500" }]);
    await upstash.close();
  });
});

describe("a drain that finds another history at its cursor", () => {
  test("counts as lost what was observed beyond the cursor, however long the new history is", async () => {
    const world = await openUsageWorld({ batchMax: 100 });
    const snapshots = redisSnapshots(world.server.url);
    const acme = randomUUID();
    const producer = () => createUsageProducer({ redis: world.redis });
    const record = (tokens: number) =>
      producer().record(world.use({ tenant: acme, tokens }), signal);
    await record(10);
    const before = await snapshots.take();
    await record(20);
    await world.reconcileTenant(acme);
    await record(40);
    await observeShards(world.deps, testRun());
    await snapshots.restore(before);
    for (let i = 0; i < 5; i += 1) await record(1);
    await world.reconcileTenant(acme);
    const [gap] = await world.database.sql`
      select tokens_lost::text as lost from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(gap).toMatchObject({ lost: "40" });
    expect(await world.tokensOf(acme)).toBe("35");
    snapshots.close();
    await world.close();
  });
});
