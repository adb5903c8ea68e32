import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LedgerWorld, openLedgerWorld } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
  const closed = [202601, 202602, 202604, 202510, 202511, 202512];
  for (const period of closed) await setPeriod(period, "closed");
  await setPeriod(202509, "open");
  await setPeriod(202605, "closing");
});
afterAll(() => world.close());

const setPeriod = (period: number, state: string) => world.sql`
  insert into worker.usage_periods (period, state) values (${period}, ${state})`;

const ledgerOf = (tenant: string) => world.sql`
  select period, usage_period, tokens, events, reason from worker.usage_ledger
   where tenant = ${tenant} order by period, usage_period`;

const readTotal = (tenant: string, period: number) =>
  world.call("usage_read_total", { p_tenant: tenant, p_period: period });

describe("a use of a closed month", () => {
  test("is billed in the first later month that is not closed, and keeps the month it happened in", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202602 });
    await shard.apply();
    expect(await ledgerOf(shard.tenant)).toEqual([
      { period: 202603, usage_period: 202602, tokens: "10", events: 1, reason: "late" },
    ]);
  });

  test("crosses December and several closed months to the next year", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202510 });
    await shard.apply();
    expect(await ledgerOf(shard.tenant)).toMatchObject([{ period: 202603, usage_period: 202510 }]);
  });

  test("is never billed in an earlier month that is open, nor in a closed one", async () => {
    const shard = await world.openShard();
    for (const period of [202510, 202511, 202512, 202601, 202602, 202604]) shard.record({ period });
    await shard.apply();
    expect(await shard.totals()).toEqual({ 202603: "50", 202605: "10" });
  });

  test("is billed once, however often it arrives", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1", period: 202602 });
    shard.record({ request: "r1", period: 202602 });
    await shard.apply();
    await shard.fork();
    await shard.apply();
    expect(await shard.totals()).toEqual({ 202603: "10" });
  });

  test("counts as late where it is billed, and as used where it happened", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202602, tokens: 5n });
    shard.record({ period: 202603, tokens: 7n });
    await shard.apply();
    expect(await readTotal(shard.tenant, 202602)).toMatchObject({
      tokens: "0",
      used: "5",
      late: "0",
    });
    expect(await readTotal(shard.tenant, 202603)).toMatchObject({
      tokens: "12",
      used: "7",
      late: "5",
      breakdown: [{ tokens: "12", events: "2" }],
    });
    const [total] = await world.sql`
      select tokens, late, future from worker.usage_totals where tenant = ${shard.tenant}`;
    expect(total).toEqual({ tokens: "12", late: "5", future: "0" });
  });
});

describe("a month that is closing", () => {
  test("still takes its own uses", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202605 });
    await shard.apply();
    expect(await ledgerOf(shard.tenant)).toMatchObject([{ period: 202605, reason: "usage" }]);
  });
});

describe("closing a month between two batches", () => {
  test("leaves what was billed before and moves what comes after", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202408 });
    await shard.apply();
    await setPeriod(202408, "closed");
    shard.record({ period: 202408 });
    await shard.apply();
    expect(await shard.totals()).toEqual({ 202408: "10", 202409: "10" });
  });
});

describe("a use that claims to lie in a later month", () => {
  test("is billed in the month it asks for, with its own reason", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202607, bill: 202606, tokens: 3n });
    shard.record({ period: 202606, tokens: 4n });
    await shard.apply();
    expect(await ledgerOf(shard.tenant)).toEqual([
      { period: 202606, usage_period: 202606, tokens: "4", events: 1, reason: "usage" },
      { period: 202606, usage_period: 202607, tokens: "3", events: 1, reason: "future" },
    ]);
    expect(await readTotal(shard.tenant, 202606)).toMatchObject({
      tokens: "7",
      used: "4",
      late: "3",
    });
    expect(await readTotal(shard.tenant, 202607)).toMatchObject({ tokens: "0", used: "3" });
  });

  test("counts once when one batch carries it twice", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1", period: 202607, bill: 202606 });
    shard.record({ request: "r1", period: 202607, bill: 202606 });
    expect(await shard.apply()).toMatchObject({ applied: 1, dup: 1, tokens: "10" });
    expect(await shard.totals()).toEqual({ 202606: "10" });
  });

  test("is late when the month it asks for is closed", async () => {
    const shard = await world.openShard();
    shard.record({ period: 202607, bill: 202604 });
    await shard.apply();
    expect(await ledgerOf(shard.tenant)).toMatchObject([{ period: 202605, reason: "late" }]);
  });
});

test("a month outside the calendar cannot be closed", async () => {
  await expect(setPeriod(202600, "closed")).rejects.toMatchObject({
    constraint_name: "usage_periods_period_check",
  });
});
