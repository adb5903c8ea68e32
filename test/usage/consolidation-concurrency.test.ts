import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Comparison } from "../../src/lib/usage/consolidate-shard.ts";
import { cutOf } from "../../src/lib/usage/plan-consolidation.ts";
import { keysOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import {
  type ConsolidationWorld,
  openConsolidationWorld,
  THIS_MONTH,
} from "../support/consolidation-world.ts";
import { testRun } from "../support/test-run.ts";
import { signal } from "../support/usage-world.ts";

/** Whoever else works on the same shard at the same time, nothing is corrected twice and no drift is invented. */
let world: ConsolidationWorld;
beforeAll(async () => {
  world = await openConsolidationWorld({ batchMax: 20 });
});
afterAll(() => world.close());

const PASSES = 120;

test("three producers and a worker go on while every shard is consolidated again and again: no drift", async () => {
  const busy = await openConsolidationWorld({ batchMax: 1000 });
  const tenants = Array.from({ length: 3 }, () => busy.ownTenant());
  const everybody = tenants.flatMap((tenant) => [tenant, busy.neighbourOf(tenant)]);
  let isOver = false;
  let recorded = 0;
  const produce = async () => {
    const producer = createUsageProducer({ redis: busy.redis });
    while (!isOver) {
      const tenant = everybody[recorded % everybody.length] ?? "";
      recorded += 1;
      await producer.record(busy.use({ tenant, tokens: 1 + (recorded % 500) }), signal);
      await setImmediate();
    }
  };
  const work = async () => {
    while (!isOver) for (const tenant of tenants) await busy.reconcileTenant(tenant);
  };
  const background = [produce(), produce(), produce(), work()];
  const attempts: number[] = [];
  for (let pass = 0; pass < PASSES; pass += 1) {
    const run = await busy.consolidate(tenants[pass % tenants.length] ?? "");
    expect(run.notes["outcome"]).toBe("agreed");
    attempts.push(Number(run.notes["attempts"]));
  }
  isOver = true;
  await Promise.all(background);
  for (const tenant of tenants) await busy.consolidate(tenant);
  for (const tenant of everybody) {
    expect(await busy.driftsOf(tenant)).toEqual([]);
    expect(await busy.counterOf(tenant)).toBe(await busy.usedOf(tenant));
    expect(await busy.openGap(tenant)).toBe("0");
  }
  expect(recorded).toBeGreaterThan(PASSES);
  expect(Math.max(...attempts)).toBeLessThan(20);
  await busy.close();
}, 120_000);

test("four consolidations of one shard at once correct everything once", async () => {
  const acme = world.ownTenant();
  const beta = world.neighbourOf(acme);
  const gamma = world.neighbourOf(acme);
  for (const tenant of [acme, beta, gamma]) await world.record({ tenant, tokens: 100 });
  await world.reconcileTenant(acme);
  for (let round = 0; round < 5; round += 1) {
    await world.tamper(beta, 500);
    await world.tamper(gamma, -30);
    await world.record({ tenant: acme, tokens: 10 });
    await world.loseNewest(acme);
    await Promise.all(Array.from({ length: 4 }, () => world.consolidate(acme)));
    // The surplus of beta makes the sum ambiguous; once it is gone, the gap explains the rest.
    await world.tamper(beta, -500);
    await Promise.all(Array.from({ length: 4 }, () => world.consolidate(acme)));
    expect(await world.counterOf(gamma)).toBe("100");
    expect(await world.counterOf(beta)).toBe("100");
    expect(await world.usedOf(acme)).toBe(String(110 + round * 10));
    expect(await world.counterOf(acme)).toBe(String(110 + round * 10));
    expect(await world.openGap(acme)).toBe("0");
  }
  expect(await world.adjustmentsOf(acme)).toHaveLength(5);
  const states = (await world.driftsOf(gamma)).map(({ state }) => state);
  expect(states.filter((state) => state === "repaired")).toHaveLength(5);
  expect(states).not.toContain("planned");
});

describe("a comparison that comes too late", () => {
  const snapshotOf = async (tenant: string) => {
    const { foreign: _, ...snapshot } = await world.deps.shardCounters.read(
      shardOf(tenant),
      [THIS_MONTH],
      signal,
    );
    return snapshot;
  };
  const comparisonOf = async (tenant: string): Promise<Comparison> => {
    const snapshot = await snapshotOf(tenant);
    return {
      runId: randomUUID(),
      shard: shardOf(tenant),
      snapshot,
      at: cutOf(snapshot),
      isVerified: false,
      repairId: randomUUID(),
      periods: [THIS_MONTH],
      apply: true,
      limits: {
        autoMax: 1_000_000,
        manyTenantsMin: 10,
        manyTenantsShare: 0.01,
        correctionsMax: 1000,
      },
    };
  };
  const repairOf = (comparison: Comparison, corrections: { tenant: string; delta: string }[]) => ({
    shard: comparison.shard,
    inc: comparison.snapshot.inc,
    epoch: comparison.snapshot.epoch,
    repairId: comparison.repairId,
    corrections: corrections.map((correction) => ({ ...correction, period: THIS_MONTH })),
    nowMs: Date.now(),
  });
  const driftingTenant = async (): Promise<string> => {
    const tenant = world.ownTenant();
    await world.record({ tenant, tokens: 100 });
    await world.reconcileTenant(tenant);
    await world.tamper(tenant, 7);
    return tenant;
  };

  test("repeated as it is, it plans nothing more; repeated in Redis, it corrects nothing more", async () => {
    const acme = await driftingTenant();
    const comparison = await comparisonOf(acme);
    const first = await world.deps.consolidationLedger.compare(comparison, signal);
    const again = await world.deps.consolidationLedger.compare(comparison, signal);
    expect(first).toMatchObject({ kind: "compared", corrections: [{ delta: "-7" }] });
    expect(again).toEqual({ kind: "spent" });
    const repair = repairOf(comparison, [{ tenant: acme, delta: "-7" }]);
    expect(await world.deps.shardCounters.repair(repair, signal)).toEqual({
      kind: "repaired",
      refused: 0,
    });
    expect(await world.deps.shardCounters.repair(repair, signal)).toEqual({ kind: "overtaken" });
    expect(await world.counterOf(acme)).toBe("100");
    await world.consolidate(acme); // nobody confirmed; this does
    expect(await world.driftsOf(acme)).toMatchObject([{ state: "repaired" }]);
  });

  test("with counters from before a repair, it is refused and finds nothing", async () => {
    const acme = await driftingTenant();
    const old = await comparisonOf(acme);
    await world.consolidate(acme);
    expect(await world.deps.consolidationLedger.compare(old, signal)).toEqual({ kind: "spent" });
    expect(await world.counterOf(acme)).toBe("100");
    expect(await world.driftsOf(acme)).toHaveLength(1);
  });

  test("a correction planned before a flush is not applied after it", async () => {
    const acme = await driftingTenant();
    const comparison = await comparisonOf(acme);
    await world.deps.consolidationLedger.compare(comparison, signal);
    const { meta, counter } = keysOf(shardOf(acme));
    await world.redis.command(
      ["DEL", meta, counter(THIS_MONTH), keysOf(shardOf(acme)).log],
      signal,
    );
    const repair = repairOf(comparison, [{ tenant: acme, delta: "-7" }]);
    expect(await world.deps.shardCounters.repair(repair, signal)).toEqual({ kind: "overtaken" });
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    const states = (await world.driftsOf(acme)).map(({ state }) => state);
    expect(states).toEqual(["repaired", "superseded"]);
  });

  test("a correction that nobody applied is given up, and planned again by the next", async () => {
    const acme = await driftingTenant();
    const dead = await comparisonOf(acme);
    await world.deps.consolidationLedger.compare(dead, signal);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    const late = repairOf(dead, [{ tenant: acme, delta: "-7" }]);
    expect(await world.deps.shardCounters.repair(late, signal)).toEqual({ kind: "overtaken" });
    expect((await world.driftsOf(acme)).map(({ state }) => state)).toEqual([
      "repaired",
      "superseded",
    ]);
  });

  test("of a cursor that stands elsewhere is told where", async () => {
    const acme = await driftingTenant();
    const { n } = await world.deps.usageLedger.cursor(shardOf(acme), signal);
    await world.record({ tenant: acme });
    const comparison = await comparisonOf(acme);
    expect(await world.deps.consolidationLedger.compare(comparison, signal)).toMatchObject({
      kind: "elsewhere",
      cursor: { n },
    });
  });
});

test("a shard that never holds still is asked again later, and in the end reported", async () => {
  const acme = world.ownTenant();
  await world.record({ tenant: acme });
  const restless = {
    ...world.deps,
    consolidationLedger: {
      ...world.deps.consolidationLedger,
      match: async () => [{ kind: "differs" }] as const,
      compare: async () => ({ kind: "spent" }) as const,
    },
  };
  const run = await world.consolidate(acme, {}, restless);
  expect(run.notes).toMatchObject({ outcome: "busy", attempts: 20 });
  expect(world.consolidations.splice(0)).toMatchObject([{ shard: shardOf(acme), busy: 1 }]);
  const last = await world.consolidate(acme, { busy: 10 }, restless);
  expect(world.consolidations).toEqual([]);
  expect(last.lines).toMatchObject([{ level: "error", event: "usage_cut_not_reached" }]);
});

test("a shard with more to book than fits into a slice sends its own continuation", async () => {
  const acme = world.ownTenant();
  const uses = Array.from({ length: 100 }, () => world.use({ tenant: acme, tokens: 1 }));
  await world.producer.recordAll(uses, signal);
  let now = Date.now();
  const ticking = { ...world.deps, clock: { now: () => (now += 20_000) } };
  await world.consolidate(acme, {}, ticking);
  expect(world.consolidations.splice(0)).toMatchObject([{ part: 1 }]);
  await world.consolidate(acme, { part: 1 });
  expect(await world.usedOf(acme)).toBe("100");
});

test("a rewound Redis below the cursor is followed first, and the counters come back", async () => {
  const acme = world.ownTenant();
  for (let i = 0; i < 4; i += 1) await world.record({ tenant: acme, tokens: 10 });
  await world.reconcileTenant(acme);
  const { meta, log } = keysOf(shardOf(acme));
  await world.redis.command(["XTRIM", log, "MAXLEN", "0"], signal);
  await world.redis.command(["HSET", meta, "n", "2", "cum", "20", "cnt", "2"], signal);
  await world.tamper(acme, -20);
  const run = testRun();
  await world.consolidate(acme);
  expect(await world.counterOf(acme)).toBe("40");
  expect(await world.usedOf(acme)).toBe("40");
  expect(run.lines).toEqual([]);
});
