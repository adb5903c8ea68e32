import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dispatchConsolidation } from "../../src/lib/usage/consolidate-dispatch.ts";
import { consolidateShard } from "../../src/lib/usage/consolidate-shard.ts";
import {
  countedPeriods,
  cutOf,
  digestsOf,
  idleShards,
  repairArguments,
  shardsWithCounters,
} from "../../src/lib/usage/plan-consolidation.ts";
import { settlePoisonedShard } from "../../src/lib/usage/settle-poisoned-shard.ts";
import { keysOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import {
  type ConsolidationWorld,
  LAST_MONTH_AT,
  openConsolidationWorld,
} from "../support/consolidation-world.ts";
import { testRun } from "../support/test-run.ts";
import { signal } from "../support/usage-world.ts";
import { entry } from "./log-fixtures.ts";

describe("the months that are compared", () => {
  test.each([
    ["2026-11-24T12:00:00Z", [202610, 202611, 202612]],
    ["2026-11-13T23:59:59Z", [202609, 202610, 202611, 202612]],
    ["2026-11-14T00:00:00Z", [202610, 202611, 202612]],
    ["2026-12-31T23:59:59Z", [202611, 202612, 202701]],
    ["2027-01-01T00:00:00Z", [202611, 202612, 202701, 202702]],
    ["2028-03-01T00:00:00Z", [202801, 202802, 202803, 202804]],
  ])("at %s are those whose counters have not nearly expired, and the next", (at, periods) => {
    expect(countedPeriods(Date.parse(at))).toEqual(periods);
  });
});

describe("the instant of a snapshot", () => {
  const snapshot = {
    inc: "a",
    n: "5",
    cum: "50",
    count: "5",
    epoch: "",
    last: entry({ n: 5, cum: 50 }),
    counters: [],
  };

  test("is the head, with the anchor of its entry", () => {
    expect(cutOf(snapshot)).toMatchObject({
      n: "5",
      headN: "5",
      anchor: expect.stringMatching(/@/),
    });
  });

  test("is a foreign entry that follows the head", () => {
    const last = { n: "1795325400000", fields: ["d", "garbage"] };
    expect(cutOf({ ...snapshot, last })).toMatchObject({
      n: "1795325400000",
      headN: "5",
      anchor: null,
    });
  });

  test("has no anchor when the entry of the head is gone", () => {
    expect(cutOf({ ...snapshot, n: "10" })).toMatchObject({ n: "10", anchor: null });
    expect(cutOf({ ...snapshot, last: undefined })).toMatchObject({ n: "5", anchor: null });
  });
});

test("only shards that somebody knows are planned, and only those without backlog are asked by hash", () => {
  const head = { shard: 1, inc: "a", n: "5", cum: "50", count: "5" };
  const heads = [
    head,
    { ...head, shard: 2, inc: "" },
    { ...head, shard: 3, inc: "" },
    { ...head, shard: 4, n: "6" },
    { ...head, shard: 5 },
  ];
  const cursor = { shard: 1, inc: "a", n: "5", cum: "50", count: "5", trim: null };
  const cursors = [
    cursor,
    { ...cursor, shard: 2 },
    { ...cursor, shard: 3, inc: "" },
    { ...cursor, shard: 4 },
  ];
  expect(shardsWithCounters(heads, cursors)).toEqual([1, 2, 4, 5]);
  expect(idleShards(heads, cursors)).toEqual([1]);
});

test("corrections of two months go to two keys, each with its own lifetime", () => {
  const now = Date.parse("2026-11-24T12:00:00Z");
  const { keys, args } = repairArguments(
    7,
    [
      { tenant: "a", period: 202611, delta: "5" },
      { tenant: "b", period: 202610, delta: "-1" },
      { tenant: "c", period: 202611, delta: "2" },
    ],
    now,
  );
  expect(keys).toEqual(["{u:7}:c:202611", "{u:7}:c:202610"]);
  expect(args).toEqual(["1799971200", "2", "a", "5", "c", "2", "1797379200", "1", "b", "-1"]);
});

describe("a run", () => {
  let world: ConsolidationWorld;
  beforeAll(async () => {
    world = await openConsolidationWorld();
  });
  afterAll(() => world.close());

  const dispatch = async (apply = true) => {
    const run = testRun();
    const planned = await dispatchConsolidation(world.deps, { trigger: "timer", apply }, run);
    return { ...planned, run, messages: world.consolidations.splice(0) };
  };

  test("without anything to compare is finished at once", async () => {
    const { runId, shards } = await dispatch();
    expect(shards).toBe(0);
    expect(await world.reads.run(runId, signal)).toMatchObject({ status: "succeeded" });
  });

  test("sends a message for shards with work only, and shows its progress", async () => {
    const [idle, drifting, busy] = [world.ownTenant(), world.ownTenant(), world.ownTenant()];
    for (const tenant of [idle, drifting, busy]) {
      await world.record({ tenant, tokens: 5 });
      await world.record({ tenant: `${tenant}|ñandú`, tokens: -3 });
      await world.record({ tenant, tokens: 2, occurredAt: LAST_MONTH_AT });
    }
    await world.reconcile();
    await world.record({ tenant: busy, tokens: 1 });
    await world.tamper(drifting, 4);
    const { runId, messages, run } = await dispatch();
    const sent = messages.map(({ shard }) => shard);
    expect(sent).toContain(shardOf(drifting));
    expect(sent).toContain(shardOf(busy));
    expect(sent).not.toContain(shardOf(idle));
    expect(run.notes).toMatchObject({ sent: 2, agreed: Number(run.notes["shards"]) - 2 });
    const planned = await world.reads.run(runId, signal);
    expect(planned).toMatchObject({
      job: "weekly_consolidation",
      status: "running",
      shardsDone: Number(run.notes["agreed"]),
    });
    for (const message of messages) await consolidateShard(world.deps, message, testRun());
    expect(await world.reads.run(runId, signal)).toMatchObject({
      status: "succeeded",
      percent: 100,
    });
    expect(await world.counterOf(drifting)).toBe("5");
    const again = await dispatch();
    expect(again.messages).toEqual([]);
    expect(await world.reads.run(again.runId, signal)).toMatchObject({ status: "succeeded" });
  });

  test("asks a shard again whose difference waits for a person, and one whose repair is not confirmed", async () => {
    const held = world.ownTenant();
    await world.record({ tenant: held, tokens: 5 });
    await world.reconcile();
    await world.tamper(held, 9_000_000);
    await world.consolidate(held);
    await world.tamper(held, -9_000_000);
    const { messages } = await dispatch();
    expect(messages.map(({ shard }) => shard)).toEqual([shardOf(held)]);
    for (const message of messages) await consolidateShard(world.deps, message, testRun());
    expect(await world.driftsOf(held)).toMatchObject([{ state: "superseded" }]);
    expect((await dispatch()).messages).toEqual([]);
  });

  test("of a dry run remembers nothing of the shards that agree", async () => {
    const acme = world.ownTenant();
    await world.record({ tenant: acme, tokens: 5 });
    await world.reconcile();
    const at = async () => {
      const [row] = await world.database.sql`
        select consolidated_at from worker.usage_shards where shard = ${shardOf(acme)}`;
      return row?.["consolidated_at"];
    };
    const { runId } = await dispatch(false);
    expect(await at()).toBeNull();
    expect(await world.reads.run(runId, signal)).toMatchObject({ status: "succeeded" });
    await dispatch();
    expect(await at()).not.toBeNull();
  });

  test("is not stopped by a shard that Redis cannot read: its message says so", async () => {
    const broken = world.ownTenant();
    await world.record({ tenant: broken, tokens: 5 });
    await world.reconcile();
    const period = countedPeriods(Date.now()).at(-1) ?? 0;
    const key = keysOf(shardOf(broken)).counter(period);
    await world.redis.command(["SET", key, "not a hash"], signal);
    const { messages, runId } = await dispatch();
    expect(messages.map(({ shard }) => shard)).toEqual([shardOf(broken)]);
    const [message] = messages;
    await expect(
      consolidateShard(world.deps, message ?? expect.fail("no message"), testRun()),
    ).rejects.toMatchObject({ code: "redis_refused" });
    await settlePoisonedShard(world.deps, message, testRun());
    expect(await world.reads.run(runId, signal)).toMatchObject({
      status: "failed",
      shardsFailed: 1,
    });
    await world.redis.command(["DEL", key], signal);
  });

  test("computes the same hash as the ledger, whatever the names", async () => {
    const acme = world.ownTenant();
    const names = [acme];
    while (names.length < 12) {
      const name = `${["Z", "a", "é", "日本", "|", " "][names.length % 6]}${randomUUID()}`;
      if (shardOf(name) === shardOf(acme)) names.push(name);
    }
    for (const [i, tenant] of names.entries()) await world.record({ tenant, tokens: i - 4 });
    await world.reconcile();
    const periods = countedPeriods(Date.now());
    const { counters } = await world.deps.shardCounters.read(shardOf(acme), periods, signal);
    for (const [period, digest] of Object.entries(digestsOf(counters, periods))) {
      const [row] = await world.database.sql`
        select worker.usage_counter_digest(${shardOf(acme)}, ${period}) as digest`;
      expect(row?.["digest"]).toBe(digest);
    }
  });
});
