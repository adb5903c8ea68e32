import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LedgerWorld, openLedgerWorld, waitingLocks } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const ensure = (from: string, to: string) =>
  world.call<number>("usage_ensure_days", { p_from: from, p_to: to });

const dayNumber = (date: string): number => Date.parse(date) / 86_400_000;

const partitionOf = async (tenant: string) => {
  const rows = await world.sql`
    select distinct tableoid::regclass::text as part from worker.usage_events where tenant = ${tenant}`;
  return rows.map(({ part }) => part);
};

describe("days", () => {
  test("around the installation have a partition from the start", async () => {
    const [row] = await world.sql`
      select count(*)::int as days from generate_series(current_date - 38, current_date + 38, interval '1 day') d
       where to_regclass('worker.usage_events_' || to_char(d, 'YYYYMMDD')) is not null`;
    expect(row).toEqual({ days: 77 });
  });

  test("are made once, first and last included", async () => {
    expect(await ensure("2030-01-30", "2030-02-02")).toBe(4);
    expect(await ensure("2030-01-30", "2030-02-03")).toBe(1);
    expect(await ensure("2030-01-30", "2030-02-03")).toBe(0);
  });

  test.each([
    ["more than 400", "2031-01-01", "2032-02-05"],
    ["that end before they start", "2031-01-02", "2031-01-01"],
  ])("%s are refused", async (_, from, to) => {
    await expect(ensure(from, to)).rejects.toMatchObject({ code: "UL001" });
  });

  test("without a partition keep their events, and get them back when it is made", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1", day: dayNumber("2029-05-01") });
    shard.record({ request: "r2", day: dayNumber("2029-05-02") });
    await shard.apply();
    expect(await partitionOf(shard.tenant)).toEqual(["worker.usage_events_default"]);
    expect(await ensure("2029-05-01", "2029-05-02")).toBe(2);
    expect((await partitionOf(shard.tenant)).sort()).toEqual([
      "worker.usage_events_20290501",
      "worker.usage_events_20290502",
    ]);
    await shard.fork();
    expect(await shard.apply()).toMatchObject({ applied: 0, dup: 2 });
    expect(Object.values(await shard.totals())).toEqual(["20"]);
  });

  test("get partitions with row level security and the primary key", async () => {
    await ensure("2030-07-01", "2030-07-01");
    const [row] = await world.sql`
      select c.relrowsecurity as secured, i.relname as key
        from pg_class c
        join pg_index x on x.indrelid = c.oid and x.indisprimary
        join pg_class i on i.oid = x.indexrelid
       where c.oid = 'worker.usage_events_20300701'::regclass`;
    expect(row).toEqual({ secured: true, key: "usage_events_20300701_pkey" });
  });

  test("wait for a batch that is under way, and take its events along", async () => {
    const shard = await world.openShard();
    shard.record({ day: dayNumber("2036-03-01") });
    const batch = shard.batch(0);
    const made = await world.sql.begin(async (transaction) => {
      await world.call("usage_apply_batch", batch, transaction as never);
      const pending = ensure("2036-03-01", "2036-03-01");
      pending.catch(() => undefined); // its answer is looked at below
      await expect.poll(() => waitingLocks(world.sql)).toBe(1);
      return { pending };
    });
    expect(await made.pending).toBe(1);
    expect(await partitionOf(shard.tenant)).toEqual(["worker.usage_events_20360301"]);
  });

  test("give up instead of blocking when applying does not pause", async () => {
    await world.sql.begin(async (transaction) => {
      await transaction`lock table worker.usage_events in row exclusive mode`;
      await expect(ensure("2033-01-01", "2033-01-01")).rejects.toMatchObject({ code: "55P03" });
    });
    expect(await ensure("2033-01-01", "2033-01-01")).toBe(1);
  });
});
