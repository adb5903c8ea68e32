import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DrainOrder, drainShard } from "../../src/lib/usage/drain-shard.ts";
import { type Cut, cutOff, planStep } from "../../src/lib/usage/plan-step.ts";
import { keysOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { testRun } from "../support/test-run.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";
import { cursorAt, entry } from "./log-fixtures.ts";

describe("a log cut off at an instant", () => {
  const cut: Cut = { inc: "aaaaaaaa", n: "4", headN: "4", cum: "40", count: "4" };
  const read = { inc: "aaaaaaaa", n: "9", cum: "90", count: "9", rows: [] };

  test("looks as it did then, whatever was appended since", () => {
    expect(cutOff(read, cut)).toEqual({ ...read, n: "4", cum: "40", count: "4" });
  });

  test("is void when it is another log by now, or was rewound", () => {
    expect(cutOff({ ...read, inc: "b" }, cut)).toBeUndefined();
    expect(cutOff({ ...read, n: "3" }, cut)).toBeUndefined();
  });
});

test("several foreign entries under the number of the cursor are not read again", () => {
  const foreign = { n: "2", fields: ["d", "garbage"] };
  const rows = [entry({ n: 2, cum: 20 }), foreign, foreign, entry({ n: 3, cum: 30 })];
  const read = { inc: "aaaaaaaa", n: "3", cum: "30", count: "3", rows };
  const step = planStep(cursorAt(2, 20), read, 10);
  expect(step).toMatchObject({ kind: "apply", batch: { bad: [], end: { n: "3" } } });
  expect(planStep(cursorAt(2, 20), { ...read, n: "2", rows: rows.slice(0, 3) }, 10).kind).toBe(
    "idle",
  );
});

describe("draining to a cut", () => {
  let world: UsageWorld;
  beforeAll(async () => {
    world = await openUsageWorld({ batchMax: 3 });
  });
  afterAll(() => world.close());

  const drain = async (tenant: string, parts: Partial<DrainOrder> = {}) => {
    const shard = shardOf(tenant);
    const cursor = await world.deps.usageLedger.cursor(shard, signal);
    const lease = { fence: null, cursor };
    return drainShard(
      world.deps,
      { shard, runId: randomUUID(), lease, report: undefined, ...parts },
      testRun(),
    );
  };
  const cutNow = async (tenant: string): Promise<Cut> => {
    const heads = await world.deps.shardHeads.readHeads(signal);
    const { inc, n, cum, count } = heads[shardOf(tenant)] ?? expect.fail("no head");
    return { inc, n, headN: n, cum, count };
  };

  test("books exactly up to it, however much follows", async () => {
    const acme = randomUUID();
    for (let i = 0; i < 7; i += 1) await world.record({ tenant: acme, tokens: 1 });
    const cut = await cutNow(acme);
    for (let i = 0; i < 5; i += 1) await world.record({ tenant: acme, tokens: 100 });
    expect(await drain(acme, { cut })).toMatchObject({ kind: "drained", cursor: { n: cut.n } });
    expect(await world.tokensOf(acme)).toBe("7");
    expect((await drain(acme)).kind).toBe("drained");
    expect(await world.tokensOf(acme)).toBe("507");
    expect((await drain(acme, { cut })).kind).toBe("passed");
  });

  test("reaches a cut whose last entries were deleted, and shows them as a gap", async () => {
    const acme = randomUUID();
    for (let i = 0; i < 2; i += 1) await world.record({ tenant: acme, tokens: 10 });
    const cut = await cutNow(acme);
    await world.redis.command(["XDEL", keysOf(shardOf(acme)).log, `${cut.n}-0`], signal);
    await world.record({ tenant: acme, tokens: 500 });
    expect(await drain(acme, { cut })).toMatchObject({ kind: "drained", cursor: { n: cut.n } });
    const gaps = await world.database.sql`
      select tokens_lost::text as lost from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(gaps).toMatchObject([{ lost: "10" }]);
    await drain(acme);
    expect(await world.tokensOf(acme)).toBe("510");
  });

  test("a cut of a log that was flushed meanwhile is void, and the next drain follows the new one", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme });
    const cut = await cutNow(acme);
    await world.server.flush();
    expect((await drain(acme, { cut })).kind).toBe("passed");
    expect((await drain(acme)).kind).toBe("drained");
  });

  test("two foreign entries in one millisecond do not stop a shard", async () => {
    const acme = randomUUID();
    const { log } = keysOf(shardOf(acme));
    await world.record({ tenant: acme });
    await world.redis.command(["XADD", log, "77-0", "d", "garbage"], signal);
    await drain(acme);
    await world.redis.command(["XADD", log, "77-1", "d", "more garbage"], signal);
    await world.record({ tenant: acme });
    await drain(acme);
    expect(await world.tokensOf(acme)).toBe("20");
  });
});
