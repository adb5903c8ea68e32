import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type LedgerWorld, openLedgerWorld } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const lease = (shard: number, owner: string, ttlMs = 60_000) =>
  world.call("usage_lease_shard", { p_shard: shard, p_owner: owner, p_ttl_ms: ttlMs });

/** The batches of a shard were applied this long ago. */
const age = (shard: number, hours: number) => world.sql`
  update worker.usage_batches set applied_at = applied_at - ${hours} * interval '1 hour' where shard = ${shard}`;

async function readCursor(shard: number, retainHours = 48): Promise<Answer | undefined> {
  const args = { p_retain_hours: retainHours };
  const cursors = await world.call<Answer[]>("usage_read_cursors", args);
  return cursors.find((cursor) => cursor["shard"] === shard);
}

describe("the cursor of a shard that nobody touched", () => {
  test("is made at the start of no lineage", async () => {
    expect(await world.call("usage_shard_state", { p_shard: 50_000 })).toEqual({
      shard: 50_000,
      inc: "",
      n: "0",
      cum: null,
      count: null,
      anchor: null,
      fence: "0",
      forks: 0,
    });
  });

  test.each([-1, 65_536])("is not made for shard %i", async (shard) => {
    await expect(world.call("usage_shard_state", { p_shard: shard })).rejects.toMatchObject({
      constraint_name: "usage_shards_shard_check",
    });
  });
});

describe("a lease", () => {
  test("carries the cursor and keeps others out", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    expect(await lease(shard.shard, "one")).toMatchObject({
      status: "ok",
      fence: "1",
      shard: shard.shard,
      inc: shard.inc(),
      n: "1",
      cum: "10",
      count: "1",
      anchor: expect.stringContaining("@1"),
    });
    expect(await lease(shard.shard, "two")).toEqual({ status: "busy", until: expect.any(String) });
  });

  test("of the same owner is renewed with a new fence", async () => {
    const shard = await world.openShard();
    await lease(shard.shard, "one");
    expect(await lease(shard.shard, "one")).toMatchObject({ status: "ok", fence: "2" });
  });

  test("that ended can be taken, and the new holder applies", async () => {
    const shard = await world.openShard();
    shard.record();
    await lease(shard.shard, "one", 1);
    await expect.poll(() => lease(shard.shard, "two")).toMatchObject({ status: "ok" });
    const { fence } = await shard.state();
    expect(await shard.apply({ p_fence: fence })).toMatchObject({ status: "applied" });
  });

  test("is given back by its holder, and not by one who lost it", async () => {
    const shard = await world.openShard();
    await lease(shard.shard, "one");
    const release = (fence: string) =>
      world.call("usage_release_shard", { p_shard: shard.shard, p_fence: fence });
    expect(await release("0")).toEqual({ status: "stale" });
    expect(await lease(shard.shard, "two")).toMatchObject({ status: "busy" });
    expect(await release("1")).toEqual({ status: "ok" });
    expect(await lease(shard.shard, "two")).toMatchObject({ status: "ok" });
  });

  test.each([0, 3_600_001])("of %i ms is refused", async (ttlMs) => {
    await expect(lease(1, "one", ttlMs)).rejects.toMatchObject({ code: "UL001" });
  });
});

describe("trimming", () => {
  test("waits for the retention, and comes with the next batch and with the cursors", async () => {
    const shard = await world.openShard();
    shard.record();
    shard.record();
    expect(await shard.apply()).toMatchObject({ trim: null });
    expect(await readCursor(shard.shard)).toMatchObject({ n: "2", trim: null });
    await age(shard.shard, 47);
    expect(await readCursor(shard.shard)).toMatchObject({ trim: null });
    await age(shard.shard, 2);
    expect(await readCursor(shard.shard)).toMatchObject({ trim: "2" });
    shard.record();
    expect(await shard.apply()).toMatchObject({ n: "3", trim: "2" });
  });

  test("is not asked for again once it was done", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    await age(shard.shard, 49);
    const args = { p_shard: shard.shard, p_inc: shard.inc(), p_n: 1 };
    expect(await world.call("usage_mark_trimmed", args)).toEqual({ status: "ok" });
    expect(await readCursor(shard.shard)).toMatchObject({ trim: null });
    expect(await world.call("usage_mark_trimmed", { ...args, p_inc: "another" })).toEqual({
      status: "stale",
    });
  });

  test("never reaches beyond the cursor, also when an ended lineage comes back", async () => {
    const shard = await world.openShard();
    const old = shard.inc();
    for (let i = 0; i < 10; i += 1) shard.record();
    await shard.apply();
    await age(shard.shard, 100);
    await shard.fork("redis_flushed");
    await world.call("usage_fork_shard", {
      p_shard: shard.shard,
      p_old_inc: shard.inc(),
      p_new_inc: old,
      p_cause: "lineage_changed",
    });
    expect(await readCursor(shard.shard)).toMatchObject({ n: "0", trim: null });
    const answer = await shard.apply({ ...shard.batch(0, 4), p_inc: old });
    expect(answer).toMatchObject({ n: "4", trim: null });
  });
});

test("observations beyond any number of shards are refused", async () => {
  const many = Array.from({ length: 4097 }, (_, shard) => ({ shard, inc: "a", n: 1, cum: "1" }));
  await expect(world.call("usage_observe_shards", { p_observations: many })).rejects.toMatchObject({
    code: "UL001",
  });
});
