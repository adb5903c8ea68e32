import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backoffMs } from "../../src/lib/kernel/retry.ts";
import { openDatabase, openQueues, type TestDatabase, type TestQueues } from "../support/stack.ts";
import { openShop, order, type Shop, thingWork } from "../support/work-shop.ts";

let database: TestDatabase;
let queues: TestQueues;
let shop: Shop;
beforeAll(async () => {
  database = await openDatabase();
  queues = await openQueues();
  shop = await openShop(
    {
      supabase: await database.supabase(),
      connectionString: queues.connectionString,
      queue: queues.uniqueName("things"),
    },
    { runningPerTenantMax: 8 },
  );
});
afterAll(async () => {
  await shop.close();
  await database.close();
});

const enqueueMany = async (tenant: string, count: number, priority = "normal") => {
  for (let done = 0; done < count; done += 1000) {
    const orders = Array.from({ length: Math.min(1000, count - done) }, () =>
      order({ tenant, priority }),
    );
    await shop.services.workQueue.enqueueAll("thing", orders, shop.signal);
  }
};

describe("a tenant with 10,000 items", { timeout: 60_000 }, () => {
  test("does not keep another one with a single item waiting: it starts within 10 dispatches", async () => {
    const started: string[] = [];
    const work = thingWork(shop.spec, async (_services, _thing, { tenant }) => {
      started.push(tenant);
      return {};
    });
    await enqueueMany("crowd", 10_000);
    expect(await shop.messages(), "the rest waits in the database").toBe(8);
    await shop.drain(work, { runsMax: 20 });
    await enqueueMany("single", 1);
    const before = started.length;
    await shop.drain(work, { runsMax: 12 });
    expect(started.indexOf("single") - before).toBeLessThanOrEqual(10);
    expect(started.indexOf("single")).toBeGreaterThanOrEqual(before);
  });

  test("gets its more urgent item before the crowd of its own", async () => {
    const started: string[] = [];
    const work = thingWork(shop.spec, async (_services, _thing, { priority }) => {
      started.push(priority);
      return {};
    });
    await enqueueMany("crowd", 1, "urgent");
    await shop.drain(work, { runsMax: 3 });
    expect(started).toContain("urgent");
  });

  test("keeps its pace: every end lets the next one in", async () => {
    let runs = 0;
    const work = thingWork(shop.spec, async () => {
      runs += 1;
      return {};
    });
    await shop.drain(work, { atOnce: 8, runsMax: 60 });
    expect(runs).toBeGreaterThanOrEqual(60);
    expect(await shop.messages()).toBeGreaterThanOrEqual(7);
    expect(await shop.messages()).toBeLessThanOrEqual(8);
  });

  test("shares evenly with two others that have as much to do", async () => {
    await enqueueMany("second", 100);
    await enqueueMany("third", 100);
    const started = new Map<string, number>();
    const work = thingWork(shop.spec, async (_services, _thing, { tenant }) => {
      started.set(tenant, (started.get(tenant) ?? 0) + 1);
      return {};
    });
    await shop.drain(work, { atOnce: 2, runsMax: 120 });
    for (const tenant of ["crowd", "second", "third"]) {
      expect(Math.abs((started.get(tenant) ?? 0) - 40), tenant).toBeLessThanOrEqual(6);
    }
  });

  test("never runs more at once than it may, whoever claims", async () => {
    await enqueueMany("greedy", 40);
    const rows = await database.sql`select id from worker.work_items where tenant = 'greedy'`;
    const claims = await Promise.all(
      rows.map(({ id }) => shop.services.workClaims.claim(String(id), "thing", shop.signal)),
    );
    expect(claims.filter(({ outcome }) => outcome === "claimed")).toHaveLength(8);
    expect(claims.filter(({ outcome }) => outcome === "throttled")).toHaveLength(32);
  });
});

test("a thousand items that fail at the same moment come back spread out: no second holds more than 5 %", async () => {
  await database.sql`
    insert into worker.work_items (kind, version, tenant, priority, payload, due_at, max_attempts, requested_by, state,
      claimed_by, lease_until, fence, failures)
    select 'thing', 1, 't' || n, 'normal', '{"name": "a"}', now(), 9, 'storm', 'running', 'me', now() + interval '1 min', 1, 1
      from generate_series(1, 1000) n`;
  const rows = await database.sql`select id from worker.work_items where requested_by = 'storm'`;
  const delays: number[] = [];
  const settle = async ({ id }: Record<string, unknown>) => {
    const settled = await shop.services.workClaims.settle(
      { id: String(id), fence: 1, kind: "thing" },
      { outcome: "transient", code: "database_unavailable", error: "away" },
      false,
      shop.signal,
    );
    if (settled.status === "ok") delays.push(settled.delayMs ?? 0);
  };
  for (let i = 0; i < rows.length; i += 20) await Promise.all(rows.slice(i, i + 20).map(settle));
  const seconds = new Map<number, number>();
  for (const delay of delays) {
    const second = Math.floor(delay / 1000);
    seconds.set(second, (seconds.get(second) ?? 0) + 1);
  }
  expect(delays).toHaveLength(1000);
  expect(Math.max(...seconds.values())).toBeLessThanOrEqual(50);
  expect(Math.max(...delays)).toBeLessThan(60_000);
  // The same rule as everywhere else: any time up to the doubled base.
  expect(backoffMs(2, { baseMs: 30_000, capMs: 21_600_000, random: () => 0.5 })).toBe(30_000);
  await database.sql`
    delete from worker.work_items where requested_by = 'storm'`;
}, 60_000);
