import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { observeShards } from "../../src/lib/usage/observe-shards.ts";
import { reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import { keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { testRun } from "../support/test-run.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

let world: UsageWorld;
beforeAll(async () => {
  world = await openUsageWorld({ batchMax: 100 });
});
afterAll(() => world.close());

const tenant = (name: string) => `${name}-${randomUUID()}`;
const message = (name: string, part = 0) => ({
  v: 1 as const,
  job: "daily_reconciliation" as const,
  runId: randomUUID(),
  shard: shardOf(name),
  part,
});

describe("reconciling", () => {
  test("recorded uses arrive in the ledger, to the token, with their model", async () => {
    const acme = tenant("acme");
    for (let i = 1; i <= 5; i += 1) await world.record({ tenant: acme, tokens: i });
    await world.record({ tenant: acme, tokens: 100, type: "embedding", model: "te-3-small" });
    await world.reconcile();
    const total = await world.reads.total(acme, periodOf(Date.now()), signal);
    expect(total).toMatchObject({ tokens: "115", used: "115", events: "6", late: "0" });
    expect(total.breakdown).toEqual([
      { type: "embedding", model: "te-3-small", tokens: "100", events: "1" },
      { type: "llm", model: "gpt-4o", tokens: "15", events: "5" },
    ]);
  });

  test("names with quotes, braces, commas and backslashes arrive as they are", async () => {
    const odd = String.raw`{"NULL",\"a\b'}`;
    const acme = tenant(odd);
    await world.record({ tenant: acme, agentId: odd, conversationId: "NULL" });
    await world.record({ tenant: acme, conversationId: " ñ, 漢 " });
    await world.reconcile();
    const rows = await world.database.sql`
      select agent_id, conversation_id from worker.usage_events
       where tenant = ${acme} order by agent_id nulls last`;
    expect(rows).toEqual([
      { agent_id: odd, conversation_id: "NULL" },
      { agent_id: null, conversation_id: " ñ, 漢 " },
    ]);
  });

  test("a second run books nothing", async () => {
    const acme = tenant("acme");
    await world.record({ tenant: acme });
    await world.reconcile();
    await world.reconcileTenant(acme);
    await world.reconcile();
    expect(await world.tokensOf(acme)).toBe("10");
  });

  test("more entries than a batch are booked in several, and progress is visible", async () => {
    const acme = tenant("acme");
    const uses = Array.from({ length: 350 }, () => world.use({ tenant: acme, tokens: 1 }));
    await world.producer.recordAll(uses, signal);
    await dispatchShards(world.deps, testRun());
    const [planned] = await world.reads.runs(1, signal);
    expect(planned).toMatchObject({ status: "planned", shardsDone: 0, recordsPending: 350 });
    for (const queued of world.queue.splice(0)) await reconcileShard(world.deps, queued, testRun());
    const done = await world.reads.run(planned?.runId ?? "", signal);
    expect(done).toMatchObject({
      status: "succeeded",
      recordsApplied: 350,
      tokens: "350",
      percent: 100,
    });
    expect(await world.tokensOf(acme)).toBe("350");
  });

  test("a shard that runs out of its slice sends its own continuation and loses nothing", async () => {
    const acme = tenant("acme");
    const uses = Array.from({ length: 250 }, () => world.use({ tenant: acme, tokens: 1 }));
    await world.producer.recordAll(uses, signal);
    let now = Date.now();
    const ticking = { ...world.deps, clock: { now: () => (now += 40_000) } };
    await reconcileShard(ticking, message(acme), testRun());
    expect(world.queue.splice(0)).toMatchObject([{ part: 1, shard: shardOf(acme) }]);
    expect(Number(await world.tokensOf(acme))).toBeLessThan(250);
    await world.reconcileTenant(acme);
    expect(await world.tokensOf(acme)).toBe("250");
  });

  test("a shard that another worker holds is asked for again later", async () => {
    const acme = tenant("acme");
    await world.record({ tenant: acme });
    await world.deps.usageLedger.lease(shardOf(acme), "somebody else", 60_000, signal);
    const run = testRun();
    await reconcileShard(world.deps, message(acme), run);
    expect(run.notes["outcome"]).toBe("busy");
    expect(world.queue.splice(0)).toHaveLength(1);
    await reconcileShard(world.deps, message(acme, 30), testRun());
    expect(await world.tokensOf(acme)).toBe("10");
  });

  test("four workers on the same shard without a lease book everything once", async () => {
    const acme = tenant("acme");
    const uses = Array.from({ length: 400 }, () => world.use({ tenant: acme, tokens: 3 }));
    await world.producer.recordAll(uses, signal);
    const unleased = {
      ...world.deps,
      usageLedger: {
        ...world.deps.usageLedger,
        lease: async (shard: number) => ({
          fence: null,
          cursor: await world.deps.usageLedger.cursor(shard, signal),
        }),
      },
    };
    await Promise.all(Array.from({ length: 4 }, () => world.reconcileTenant(acme, unleased)));
    expect(await world.tokensOf(acme)).toBe("1200");
  });

  test("a worker whose lease was taken over changes nothing", async () => {
    const acme = tenant("acme");
    await world.record({ tenant: acme });
    const ledger = world.deps.usageLedger;
    const overtaken = {
      ...world.deps,
      usageLedger: {
        ...ledger,
        lease: async (shard: number) => {
          const mine = await ledger.lease(shard, "paused", 1, signal);
          await expect.poll(() => ledger.lease(shard, "faster", 60_000, signal)).toBeDefined();
          return mine;
        },
      },
    };
    const run = testRun();
    await reconcileShard(overtaken, message(acme), run);
    expect(run.notes["outcome"]).toBe("fenced");
    expect(await world.tokensOf(acme)).toBe("0");
  });
});

describe("what does not belong", () => {
  test("a malformed entry is quarantined with its raw value and never blocks its neighbours", async () => {
    const acme = tenant("acme");
    const { log } = keysOf(shardOf(acme));
    await world.record({ tenant: acme });
    await world.redis.command(["XADD", log, "*", "d", "1|not|an|entry\u0000"], signal);
    await world.record({ tenant: acme });
    await world.reconcile();
    expect(await world.tokensOf(acme)).toBe("20");
    const rows = await world.database.sql`
      select raw, error from worker.usage_quarantine where shard = ${shardOf(acme)}`;
    expect(rows).toMatchObject([{ raw: '["d","1|not|an|entry\\u0000"]', error: "format" }]);
    const gaps = await world.database
      .sql`select * from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(gaps).toEqual([]);
  });

  test("an entry that vanished between write and read becomes a gap with its exact amount", async () => {
    const acme = tenant("acme");
    const { log } = keysOf(shardOf(acme));
    await world.record({ tenant: acme, tokens: 10 });
    await world.record({ tenant: acme, tokens: 77 });
    const last = await world.producer.record(world.use({ tenant: acme, tokens: 5 }), signal);
    await world.reconcile();
    await world.record({ tenant: acme, tokens: 33 });
    await world.record({ tenant: acme, tokens: 2 });
    await world.redis.command(["XDEL", log, `${Number(last.n) + 1}-0`], signal);
    await world.reconcile();
    const gaps = await world.database.sql`
      select tokens_lost::text as lost, cause from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(gaps).toMatchObject([{ lost: "33", cause: "missing_entries" }]);
    expect(await world.tokensOf(acme)).toBe("94");
  });
});

describe("a Redis that forgot", () => {
  test("everything, with a live producer: the replay closes the gap", async () => {
    const acme = tenant("acme");
    for (let i = 0; i < 5; i += 1) await world.record({ tenant: acme });
    await world.reconcile();
    for (let i = 0; i < 5; i += 1) await world.record({ tenant: acme });
    await world.server.flush();
    await world.record({ tenant: acme });
    await world.reconcile();
    expect(await world.tokensOf(acme)).toBe("110");
    const [gap] = await world.database.sql`
      select sum(tokens_lost - recovered)::text as open from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(gap?.["open"]).toBe("0");
  });

  test("everything, and nobody writes afterwards: the shard settles and is not planned again", async () => {
    const acme = tenant("acme");
    await world.record({ tenant: acme });
    await world.reconcile();
    await world.server.flush();
    await world.reconcile();
    await world.reconcile();
    await dispatchShards(world.deps, testRun());
    expect(world.queue.splice(0).map((queued) => queued.shard)).not.toContain(shardOf(acme));
    expect(await world.tokensOf(acme)).toBe("10");
  });

  test("everything, and every producer died: what the observer saw is a gap of that size", async () => {
    const acme = tenant("acme");
    await world.record({ tenant: acme, tokens: 100 });
    await world.reconcile();
    await world.record({ tenant: acme, tokens: 40 });
    await observeShards(world.deps, testRun());
    await world.server.flush();
    await world.reconcile();
    const [gap] = await world.database.sql`
      select sum(tokens_lost - recovered)::text as open from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(await world.tokensOf(acme)).toBe("100");
    expect(gap?.["open"]).toBe("40");
  });
});
