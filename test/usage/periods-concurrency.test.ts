import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Args,
  type LedgerShard,
  type LedgerWorld,
  openLedgerWorld,
} from "./sql/ledger-world.ts";

/** A month is closed while others book into it. Whoever is first, nothing is booked into a closed month. */
let world: LedgerWorld;
let crowd: Sql;
beforeAll(async () => {
  world = await openLedgerWorld();
  crowd = postgres(world.database.url, { max: 40, onnotice: () => {} });
});
afterAll(async () => {
  await crowd.end({ timeout: 1 });
  await world.close();
});

const PERIOD = 203_101;
const SHARDS = 24;
const BATCHES = 12;

const closeArgs = async (period: number): Promise<Args> => ({
  p_period: period,
  p_heads: await everyHead(),
  p_grace_hours: 0,
  p_who: "job",
  p_reason: null,
  p_despite: [],
  p_now: "2039-01-01T00:00:00Z",
});

/** Everything of a shard, batch by batch. */
async function bookAll(shard: LedgerShard): Promise<void> {
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const args = shard.batch(batch * 5, batch * 5 + 5);
    const { status } = await world.call("usage_apply_batch", args, crowd);
    expect(status).toBe("applied");
  }
}

describe("closing a month while it is booked into", () => {
  test("leaves every use in it or in the next one, and nothing in it after it was closed", async () => {
    for (let round = 0; round < 6; round += 1) {
      const period = PERIOD + 2 * round; // the month after it takes the late uses
      const shards = await Promise.all(Array.from({ length: SHARDS }, () => world.openShard()));
      for (const shard of shards) {
        for (let i = 0; i < BATCHES * 5; i += 1) shard.record({ period, tokens: 1n });
      }
      const booking = Promise.all(shards.map(bookAll));
      await waitForSome(period, round * 40);
      const closed = await world.call("usage_close_period", await closeArgs(period), crowd);
      expect(closed).toMatchObject({ status: "closed" });
      const atClose = await sumOf(period);
      await booking;
      expect(await sumOf(period)).toEqual(atClose);
      const [after] = await world.sql`
        select count(*)::int as rows from worker.usage_ledger l, worker.usage_periods p
         where l.period = ${period} and p.period = l.period and l.booked_at > p.closed_at`;
      expect(after).toEqual({ rows: 0 });
      const [all] = await world.sql`
        select sum(tokens)::int as tokens from worker.usage_ledger where usage_period = ${period}`;
      expect(all).toEqual({ tokens: SHARDS * BATCHES * 5 });
      const [late] = await world.sql`
        select coalesce(sum(tokens), 0)::int as tokens from worker.usage_ledger
         where usage_period = ${period} and reason = 'late'`;
      expect(Number(late?.["tokens"]) + Number(atClose)).toBe(SHARDS * BATCHES * 5);
    }
  });

  test("waits for a batch that read the open month and has not committed", async () => {
    const period = PERIOD + 100;
    const shard = await world.openShard();
    shard.record({ period, tokens: 7n });
    const booked = Promise.withResolvers<void>();
    const mayCommit = Promise.withResolvers<void>();
    const booking = crowd.begin(async (sql) => {
      await world.call("usage_apply_batch", shard.batch(0), sql as never);
      booked.resolve();
      await mayCommit.promise;
    });
    await booked.promise;
    const args = await closeArgs(period);
    const closing = world.call("usage_close_period", args, crowd);
    expect(await Promise.race([closing, waitsForLock()])).toBe("waits");
    mayCommit.resolve();
    await booking;
    expect(await closing).toMatchObject({ status: "closed" });
    expect(await sumOf(period)).toBe("7");
  });

  test("lets a batch that comes while it closes book into the next month", async () => {
    const period = PERIOD + 200;
    const shard = await world.openShard();
    shard.record({ period, tokens: 7n });
    const args = await closeArgs(period);
    const closed = Promise.withResolvers<void>();
    const mayCommit = Promise.withResolvers<void>();
    const closing = crowd.begin(async (sql) => {
      expect(await world.call("usage_close_period", args, sql as never)).toMatchObject({
        status: "closed",
      });
      closed.resolve();
      await mayCommit.promise;
    });
    await closed.promise;
    const booking = world.call("usage_apply_batch", shard.batch(0), crowd);
    expect(await Promise.race([booking, waitsForLock()])).toBe("waits");
    mayCommit.resolve();
    await closing;
    expect(await booking).toMatchObject({ status: "applied", applied: 1 });
    expect(await shard.totals()).toEqual({ [period + 1]: "7" });
  });

  test("covers a shard that nobody had touched before", async () => {
    const period = PERIOD + 300;
    const args = await closeArgs(period);
    const closed = Promise.withResolvers<void>();
    const mayCommit = Promise.withResolvers<void>();
    const closing = crowd.begin(async (sql) => {
      await world.call("usage_close_period", args, sql as never);
      closed.resolve();
      await mayCommit.promise;
    });
    await closed.promise;
    const tenant = "new-here";
    const booking = world.call(
      "usage_legacy_book",
      {
        p_lane: "legacy_direct",
        p_uid: ["6dbcf892-fc24-da1b-aefb-c0f8eacc3072"],
        p_tenant: [tenant],
        p_shard: [60_000],
        p_period: [period],
        p_day: [20_781],
        p_tokens: ["9"],
        p_type: ["llm"],
        p_model: [""],
      },
      crowd,
    );
    expect(await Promise.race([booking, waitsForLock()])).toBe("waits");
    mayCommit.resolve();
    await closing;
    await booking;
    const rows = await world.sql`select period from worker.usage_totals where tenant = ${tenant}`;
    expect(rows).toEqual([{ period: period + 1 }]);
  });
});

/** As if every log had held nothing at the barrier: what is booked meanwhile comes after it. */
async function everyHead(): Promise<object[]> {
  const rows = await world.sql`select shard, inc, '0' as n from worker.usage_shards`;
  return [{ shard: 0, inc: "", n: "0" }, ...rows];
}

const sumOf = async (period: number): Promise<string> => {
  const [row] = await world.sql`
    select coalesce(sum(tokens), 0)::text as tokens from worker.usage_totals where period = ${period}`;
  return String(row?.["tokens"]);
};

/** Until so many tokens are booked, so that closing meets the bookings at different points. */
async function waitForSome(period: number, tokens: number): Promise<void> {
  for (let i = 0; i < 2000; i += 1) if (Number(await sumOf(period)) >= tokens) return;
  throw new Error("the bookings do not proceed");
}

/** Until some session of ours waits for a lock. */
async function waitsForLock(): Promise<string> {
  for (let i = 0; i < 2000; i += 1) {
    const rows = await world.sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    if (rows.length > 0) return "waits";
  }
  throw new Error("nobody waits");
}
