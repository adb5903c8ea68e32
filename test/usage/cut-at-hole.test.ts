import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeUpToHole } from "../../src/lib/usage/cut-at-hole.ts";
import { keysOf, newLineage, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";
import { entry, start } from "./log-fixtures.ts";

const at = (...numbers: number[]) => numbers.map((n) => entry({ n, cum: n * 10 }));

describe("a page of the log", () => {
  test("without a hole is one batch", () => {
    const { batch, isWhole } = decodeUpToHole(at(1, 2, 3), start);
    expect(isWhole).toBe(true);
    expect(batch).toMatchObject({ end: { n: "3" } });
  });

  test("ends before a hole", () => {
    const { batch, isWhole } = decodeUpToHole(at(1, 2, 5, 6), start);
    expect(isWhole).toBe(false);
    expect(batch).toMatchObject({ end: { n: "2", cum: "20", count: "2" } });
  });

  test("goes on behind a hole at its start, up to the next one", () => {
    expect(decodeUpToHole(at(4, 5), start)).toMatchObject({
      isWhole: true,
      batch: { end: { n: "5" } },
    });
    expect(decodeUpToHole(at(4, 5, 9), start)).toMatchObject({
      isWhole: false,
      batch: { end: { n: "5" } },
    });
  });

  test("of a new lineage is whole: what it lost is told by its markers", () => {
    const unknown = { n: "0", cum: null, count: null, anchor: null };
    expect(decodeUpToHole(at(3, 4, 6), unknown)).toMatchObject({
      isWhole: true,
      batch: { end: { n: "6" } },
    });
  });

  test("with malformed and copied entries is whole: neither is a hole", () => {
    const garbage = { n: "3", fields: ["d", "garbage"] };
    const copy = entry({ n: 5, cum: 10, count: 1, uid: randomUUID() });
    const next = entry({ n: 6, cum: 40, count: 4 });
    const rows = [...at(1, 2), garbage, entry({ n: 4, cum: 30, count: 3 }), copy, next];
    expect(decodeUpToHole(rows, start).isWhole).toBe(true);
  });
});

describe("entries that vanished from Redis", () => {
  let world: UsageWorld;
  beforeAll(async () => {
    world = await openUsageWorld({ batchMax: 7 });
  });
  afterAll(() => world.close());

  const gapsOf = (tenant: string) =>
    world.database.sql`
      select from_n::int as from, tokens_lost::text as lost, entries_lost::int as entries
        from worker.usage_gaps where shard = ${shardOf(tenant)} order by id`;
  const forgetLineage = (tenant: string) =>
    world.redis.command(["HSET", keysOf(shardOf(tenant)).meta, "inc", newLineage()], signal);
  const vanish = (tenant: string, ...numbers: number[]) =>
    world.redis.command(
      ["XDEL", keysOf(shardOf(tenant)).log, ...numbers.map((n) => `${n}-0`)],
      signal,
    );

  test("are one gap each, also when the whole log is read again after forks", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme, tokens: 10 });
    await world.reconcileTenant(acme);
    for (let i = 1; i < 20; i += 1) await world.record({ tenant: acme, tokens: 10 });
    await vanish(acme, 5, 6, 12);
    const found = [
      { from: 5, lost: "20", entries: 2 },
      { from: 12, lost: "10", entries: 1 },
    ];
    await world.reconcileTenant(acme);
    expect([...(await gapsOf(acme))]).toEqual(found);
    for (let fork = 0; fork < 2; fork += 1) {
      await world.record({ tenant: acme, tokens: 10 }); // batches begin elsewhere now
      await forgetLineage(acme);
      await world.reconcileTenant(acme);
      expect([...(await gapsOf(acme))]).toEqual(found);
    }
    for (let i = 0; i < 2; i += 1) await world.record({ tenant: acme, tokens: 10 });
    await vanish(acme, 23); // as much as before, somewhere else
    await world.reconcileTenant(acme);
    expect([...(await gapsOf(acme))]).toEqual([...found, { from: 23, lost: "10", entries: 1 }]);
    expect(await world.tokensOf(acme)).toBe("200");
  });
});
