import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LedgerWorld, openLedgerWorld } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const observe = (shard: number, inc: string, n: number, cum: string, count: number | null = n) =>
  world.call<number>("usage_observe_shards", { p_observations: [{ shard, inc, n, cum, count }] });

/** Ten records of 10 tokens, the first five applied. */
async function shardWithTenRecords() {
  const shard = await world.openShard();
  for (let i = 0; i < 10; i += 1) shard.record();
  await world.call("usage_apply_batch", shard.batch(0, 5));
  return shard;
}

describe("entries that vanished between write and read", () => {
  test("are a gap of exactly their amount and number", async () => {
    const shard = await shardWithTenRecords();
    shard.lose(7, 8);
    await shard.apply();
    expect(await shard.gaps()).toEqual([
      {
        cause: "missing_entries",
        from_n: "6",
        to_n: "10",
        tokens_lost: "20",
        recovered: "0",
        entries_lost: "2",
        entries_recovered: "0",
      },
    ]);
  });

  test("are found by their number when their amounts cancel", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    const use = shard.record({ tokens: 500n });
    const credit = shard.record({ tokens: -500n });
    shard.record();
    shard.lose(use.n, credit.n);
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ tokens_lost: "0", entries_lost: "2" }]);
  });

  test("are found when only credits were lost", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    const credit = shard.record({ tokens: -7n });
    shard.record();
    shard.lose(credit.n);
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ tokens_lost: "-7", entries_lost: "1" }]);
  });

  test("are found when the log ends with them", async () => {
    const shard = await shardWithTenRecords();
    await shard.apply({
      ...shard.batch(5, 8),
      p_to_n: 10,
      p_cum: 100,
      p_count: 10,
      p_anchor: null,
    });
    expect(await shard.gaps()).toMatchObject([
      { to_n: "10", tokens_lost: "20", entries_lost: "2" },
    ]);
  });

  test("are no gap when every entry is there, malformed ones and markers included", async () => {
    const shard = await shardWithTenRecords();
    shard.bad({ raw: "in the chain", error: "tenant", tokens: "33" });
    shard.bad({ raw: "foreign", error: "format" });
    shard.marker({ oi: "old", ln: 1, lc: "1", cn: 1, cc: "1" });
    shard.record();
    await shard.apply();
    expect(await shard.gaps()).toEqual([]);
  });

  test("are not asked for in the first batch after a fork, whose start may have been trimmed", async () => {
    const shard = await shardWithTenRecords();
    await shard.apply();
    shard.lose(1, 2, 3);
    await shard.fork("lineage_changed", 10, "100");
    await shard.apply();
    expect(await shard.gaps()).toEqual([]);
    shard.record();
    const lost = shard.record();
    shard.record();
    shard.lose(lost.n);
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ tokens_lost: "10", entries_lost: "1" }]);
  });
});

describe("a rewind marker", () => {
  test("opens a gap from what survived or was applied, whichever is further", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    shard.lose(6, 7, 8, 9, 10);
    await shard.fork("lineage_changed", 3, "30");
    shard.marker({ oi: old, ln: 10, lc: "100", cn: 3, cc: "30" });
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([
      { cause: "redis_rewind", from_n: "6", to_n: "10", tokens_lost: "50", recovered: "0" },
    ]);
  });

  test("whose loss had survived opens none", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    await shard.apply();
    await shard.fork("lineage_changed", 8, "80");
    shard.marker({ oi: old, ln: 9, lc: "90", cn: 8, cc: "80" });
    await shard.apply();
    expect(await shard.gaps()).toEqual([]);
  });

  test("of a second producer only extends the gap", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    await shard.fork("redis_flushed");
    shard.marker({ oi: old, ln: 8, lc: "80", cn: 0, cc: "0" });
    shard.marker({ oi: old, ln: 10, lc: "100", cn: 0, cc: "0" });
    await shard.apply();
    shard.marker({ oi: old, ln: 9, lc: "90", cn: 0, cc: "0" });
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ from_n: "6", to_n: "10", tokens_lost: "50" }]);
  });

  test("that is read again after another fork changes nothing", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    await shard.fork("redis_flushed");
    shard.marker({ oi: old, ln: 10, lc: "100", cn: 0, cc: "0" });
    await shard.apply();
    const before = await shard.gaps();
    await shard.fork("anchor_mismatch", 11, "100");
    await shard.apply();
    expect(await shard.gaps()).toEqual(before);
  });
});

describe("a replay", () => {
  async function lostHalf() {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    const lost = shard.entries
      .slice(5)
      .flatMap((entry) => (entry.kind === "use" ? [entry.use] : []));
    shard.lose(...shard.entries.map(({ n }) => n));
    await shard.fork("redis_flushed");
    shard.marker({ oi: old, ln: 10, lc: "100", cn: 0, cc: "0" });
    return { shard, old, lost };
  }

  test("closes the gap and books what was lost", async () => {
    const { shard, old, lost } = await lostHalf();
    for (const use of lost) shard.record({ ...use, replayOf: old });
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([
      { tokens_lost: "50", recovered: "50", entries_recovered: "5" },
    ]);
    expect(Object.values(await shard.totals())).toEqual(["100"]);
  });

  test("counts as recovered only what was really new, once", async () => {
    const { shard, old, lost } = await lostHalf();
    const [first] = lost;
    if (first === undefined) throw new Error("nothing was lost");
    shard.record({ ...first, replayOf: old });
    shard.record({ ...first, replayOf: old });
    await shard.apply();
    shard.record({ ...first, replayOf: old });
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ recovered: "10", entries_recovered: "1" }]);
  });

  test("of what had been applied recovers nothing", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    const [applied] = shard.entries.flatMap((entry) => (entry.kind === "use" ? [entry.use] : []));
    await shard.fork("redis_flushed");
    shard.lose(...shard.entries.map(({ n }) => n));
    shard.marker({ oi: old, ln: 10, lc: "100", cn: 0, cc: "0" });
    shard.record({ ...applied, replayOf: old });
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ recovered: "0", entries_recovered: "0" }]);
  });
});

describe("what the observer saw", () => {
  test("and nobody applied is a gap when the lineage ends", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    await observe(shard.shard, old, 9, "90");
    await shard.fork("redis_flushed");
    expect(await shard.gaps()).toMatchObject([
      { cause: "redis_rewind", from_n: "6", to_n: "9", tokens_lost: "40", entries_lost: "4" },
    ]);
    const rows =
      await world.sql`select 1 from worker.usage_observations where shard = ${shard.shard}`;
    expect(rows).toHaveLength(0);
  });

  test("is a gap by its number when the amounts cancel", async () => {
    const shard = await shardWithTenRecords();
    await observe(shard.shard, shard.inc(), 7, "50");
    await shard.fork("redis_flushed");
    expect(await shard.gaps()).toMatchObject([{ tokens_lost: "0", entries_lost: "2" }]);
  });

  test("and survived is none", async () => {
    const shard = await shardWithTenRecords();
    await observe(shard.shard, shard.inc(), 9, "90");
    await shard.fork("redis_rewound", 9, "90");
    expect(await shard.gaps()).toEqual([]);
  });

  test("is the same loss that a marker reports, so the further of both stands", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    await observe(shard.shard, old, 9, "90");
    await shard.fork("redis_flushed");
    shard.lose(...shard.entries.map(({ n }) => n));
    shard.marker({ oi: old, ln: 10, lc: "100", cn: 0, cc: "0" });
    await shard.apply();
    expect(await shard.gaps()).toMatchObject([{ from_n: "6", to_n: "10", tokens_lost: "50" }]);
  });

  test("of a log that nobody ever read is lost from its start", async () => {
    const shard = await world.openShard();
    const fresh = 60_000 + shard.shard;
    await observe(fresh, "gone", 4, "40");
    await world.call("usage_shard_state", { p_shard: fresh });
    await world.call("usage_fork_shard", {
      p_shard: fresh,
      p_old_inc: "",
      p_new_inc: "new",
      p_cause: "first",
    });
    const gaps = await world.sql`
      select inc, from_n, tokens_lost from worker.usage_gaps where shard = ${fresh}`;
    expect(gaps).toEqual([{ inc: "gone", from_n: "1", tokens_lost: "40" }]);
  });

  test("in a lineage that ended before its first batch does not count again what was applied in the one before", async () => {
    const shard = await shardWithTenRecords();
    await shard.apply();
    await shard.fork("redis_rewound", 8, "80");
    await observe(shard.shard, shard.inc(), 12, "95");
    await shard.fork("redis_flushed");
    expect(await shard.gaps()).toMatchObject([{ from_n: "9", to_n: "12", tokens_lost: "15" }]);
  });

  test("never goes back within a lineage", async () => {
    const shard = await world.openShard();
    expect(await observe(shard.shard, "x", 5, "50")).toBe(1);
    expect(await observe(shard.shard, "x", 4, "40")).toBe(0);
    expect(await observe(shard.shard, "", 9, "90")).toBe(0);
    const [row] = await world.sql`
      select n, cum from worker.usage_observations where shard = ${shard.shard}`;
    expect(row).toEqual({ n: "5", cum: "50" });
  });
});

describe("a fork", () => {
  test("of another lineage than the cursor's is stale and changes nothing", async () => {
    const shard = await shardWithTenRecords();
    const answer = await world.call("usage_fork_shard", {
      p_shard: shard.shard,
      p_old_inc: "another",
      p_new_inc: "new",
      p_cause: "lineage_changed",
    });
    expect(answer).toEqual({ status: "stale", inc: shard.inc(), n: "5" });
    expect(await shard.state()).toMatchObject({ n: "5", forks: 1 });
  });

  test("reads everything again and books nothing twice", async () => {
    const shard = await shardWithTenRecords();
    await shard.apply();
    await shard.fork("redis_rewound", 10, "100");
    expect(await shard.state()).toMatchObject({
      n: "0",
      cum: null,
      count: null,
      anchor: null,
      forks: 2,
    });
    await world.call("usage_apply_batch", shard.batch(0, 3));
    expect(await shard.apply()).toMatchObject({ applied: 0, dup: 7 });
    expect(Object.values(await shard.totals())).toEqual(["100"]);
  });

  test("back to a lineage that a restored snapshot brought back is one visit more", async () => {
    const shard = await shardWithTenRecords();
    const old = shard.inc();
    await shard.fork("redis_flushed");
    const back = {
      p_shard: shard.shard,
      p_old_inc: shard.inc(),
      p_new_inc: old,
      p_cause: "lineage_changed",
    };
    expect(await world.call("usage_fork_shard", back)).toMatchObject({ status: "ok" });
    expect(await shard.apply({ ...shard.batch(0), p_inc: old })).toMatchObject({
      applied: 5,
      dup: 5,
    });
    expect(Object.values(await shard.totals())).toEqual(["100"]);
    const lineages = await world.sql`
      select fork, cause from worker.usage_lineages where shard = ${shard.shard} order by fork`;
    expect(lineages).toEqual([
      { fork: 1, cause: "redis_flushed" },
      { fork: 2, cause: "lineage_changed" },
    ]);
  });

  test.each([
    ["the same lineage", (inc: string) => inc],
    ["no lineage", () => ""],
  ])("to %s is refused", async (_, next) => {
    const shard = await shardWithTenRecords();
    const fork = { p_shard: shard.shard, p_old_inc: shard.inc(), p_cause: "redis_rewound" };
    await expect(
      world.call("usage_fork_shard", { ...fork, p_new_inc: next(shard.inc()) }),
    ).rejects.toMatchObject({ code: "UL001" });
  });

  test("for an unknown cause is refused", async () => {
    const shard = await shardWithTenRecords();
    await expect(shard.fork("boredom")).rejects.toMatchObject({
      constraint_name: "usage_lineages_cause_check",
    });
  });
});
