import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { permanent, transient } from "../../src/lib/kernel/errors.ts";
import { runWork } from "../../src/lib/queue/run-work.ts";
import { sweepWork } from "../../src/lib/queue/sweep-work.ts";
import type { WorkEnding, WorkRun } from "../../src/lib/queue/work.ts";
import { openDatabase, openQueues, type TestDatabase, type TestQueues } from "../support/stack.ts";
import { testRun } from "../support/test-run.ts";
import { openShop, order, type Shop, type ShopServices, thingWork } from "../support/work-shop.ts";

let database: TestDatabase;
let queues: TestQueues;
let shop: Shop;
beforeAll(async () => {
  database = await openDatabase();
  queues = await openQueues();
});
beforeEach(async () => {
  shop = await openShopHere();
});
afterEach(async () => {
  await shop.close();
  const [books] = await database.sql`select worker.work_accounting() as books`;
  expect(books?.["books"], "every item is in the books").toMatchObject({ unaccounted: "0" });
});
afterAll(() => database.close());

const openShopHere = async (options = {}) =>
  openShop(
    {
      supabase: await database.supabase(),
      connectionString: queues.connectionString,
      queue: queues.uniqueName("things"),
    },
    options,
  );

const enqueue = async (over = {}): Promise<string> =>
  (await shop.services.workQueue.enqueue("thing", order(over), shop.signal)).id;
const rowOf = async (id: string) =>
  (await database.sql`select * from worker.work_items where id = ${id}`)[0];
const until = async (isSo: () => Promise<boolean> | boolean) => {
  for (let i = 0; i < 400; i += 1) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("not within 4 s");
};
const delivery = (id: string) => ({
  raw: { v: 1, item: id, kind: "thing" },
  queue: "things-normal",
  priority: "normal" as const,
  messageId: randomUUID(),
  insertedAt: "",
});
/** Waits until its signal aborts. */
const aborted = ({ signal }: WorkRun) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

describe("an item", () => {
  test("is worked on once and keeps its result, its progress and its story", async () => {
    const seen: WorkRun[] = [];
    const work = thingWork(shop.spec, async (_services, { name }, run) => {
      seen.push(run);
      return { name };
    });
    const id = await enqueue({ payload: { name: "a" }, priority: "high", tenant: "acme" });
    expect(await shop.drain(work)).toBe(1);
    expect(seen).toMatchObject([
      { itemId: id, tenant: "acme", priority: "high", attempt: 1, fence: 1 },
    ]);
    expect(await rowOf(id)).toMatchObject({ state: "succeeded", result: { name: "a" } });
    expect(await shop.messages()).toBe(0);
  });

  test("with a result that cannot be stored succeeds all the same", async () => {
    const work = thingWork(shop.spec, async () => ({
      text: "a\0b \ud800",
      long: "x".repeat(20_000),
    }));
    const id = await enqueue();
    await shop.drain(work);
    expect(await rowOf(id)).toMatchObject({
      state: "succeeded",
      result: { dropped: "not storable" },
    });
  });

  test("that is delivered twice runs once", async () => {
    let runs = 0;
    const work = thingWork(shop.spec, async () => {
      runs += 1;
      return {};
    });
    const id = await enqueue();
    const both = [delivery(id), delivery(id)];
    await Promise.all(both.map((it) => runWork(shop.services, work, it, testRun())));
    await shop.drain(work);
    expect(runs).toBe(1);
  });

  test("that fails for a while is sent again with a delay, then succeeds", async () => {
    const work = thingWork(shop.spec, async (_services, _thing, { attempt }) => {
      if (attempt === 1) throw transient("database_unavailable", { retryAfterMs: 1 });
      return {};
    });
    const id = await enqueue();
    await runWork(shop.services, work, delivery(id), testRun());
    expect(await rowOf(id)).toMatchObject({
      state: "retrying",
      failures: 1,
      code: "database_unavailable",
    });
    await database.sql`update worker.work_items set due_at = now() where id = ${id}`;
    await runWork(shop.services, work, delivery(id), testRun());
    expect(await rowOf(id)).toMatchObject({ state: "succeeded", attempts: 2, code: null });
  });

  test.each([
    ["a permanent error", () => permanent("message_invalid"), "message_invalid"],
    ["a bug", () => new RangeError("secret"), "unclassified"],
  ])(
    "ends after its last attempt with %s, with a reason that holds no content",
    async (_, error, code) => {
      const work = thingWork(shop.spec, async () => {
        throw error();
      });
      const id = await enqueue({ maxAttempts: 1 });
      await shop.drain(work);
      const row = await rowOf(id);
      expect(row).toMatchObject({ state: "dead", code });
      expect(row?.["error"]).not.toContain("secret");
    },
  );

  test("tells its feature once that it ended without success, later when the feature is away", async () => {
    const told: WorkEnding[] = [];
    let isAway = true;
    const work = thingWork(
      shop.spec,
      async () => {
        throw permanent("message_invalid");
      },
      async (_services, _thing, ending) => {
        if (isAway) throw transient("database_unavailable");
        told.push(ending);
      },
    );
    const id = await enqueue();
    await shop.drain(work);
    expect(told).toEqual([]);
    isAway = false;
    await database.sql`update worker.work_items set settle_at = now() where id = ${id}`;
    await sweepWork(shop.services, [work], testRun());
    await sweepWork(shop.services, [work], testRun());
    expect(told).toEqual([{ itemId: id, state: "dead", reason: "message_invalid" }]);
    expect(await rowOf(id)).toMatchObject({ settle_at: null });
  });
});

describe("a running handler", () => {
  const cancel = (id: string) =>
    database.sql`select worker.work_cancel(${id}, 'ana', 'enough', '{"thing": 4}')`;

  test("sees a cancel at its next heartbeat", async () => {
    const quick = await openShopHere({ leaseMs: 400 });
    const work = thingWork(quick.spec, async (_services, _thing, run) => aborted(run));
    const { id } = await quick.services.workQueue.enqueue("thing", order(), quick.signal);
    const running = quick.drain(work);
    await until(async () => (await rowOf(id))?.["state"] === "running");
    await cancel(id);
    await running;
    expect(await rowOf(id)).toMatchObject({ state: "cancelled", code: "work_cancelled" });
    await quick.close();
  });

  test("keeps its lease as long as it works, and shows its progress", async () => {
    const quick = await openShopHere({ leaseMs: 400 });
    let finish = () => {};
    const work = thingWork(quick.spec, async (_services, _thing, run) => {
      run.progress({ pages: 7 });
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      return {};
    });
    const { id } = await quick.services.workQueue.enqueue("thing", order(), quick.signal);
    const startedAt = Date.now();
    const running = quick.drain(work);
    await until(async () => (await rowOf(id))?.["progress"]?.["pages"] === 7);
    await until(() => Date.now() - startedAt > 1000);
    expect(await quick.services.workClaims.claim(id, "thing", quick.signal)).toEqual({
      outcome: "busy",
    });
    finish();
    await running;
    expect(await rowOf(id)).toMatchObject({ state: "succeeded", crashes: 0 });
    await quick.close();
  });

  test("that takes too long is stopped, and tries again later", async () => {
    const quick = await openShopHere({ timeoutMs: 50 });
    const work = thingWork(quick.spec, async (_services, _thing, run) => aborted(run));
    const { id } = await quick.services.workQueue.enqueue("thing", order(), quick.signal);
    await runWork(quick.services, work, delivery(id), testRun());
    expect(await rowOf(id)).toMatchObject({ state: "retrying", code: "deadline_exceeded" });
    await quick.close();
  });

  test("that ignores its signal is given up, and what it says later is refused", async () => {
    const quick = await openShopHere({ timeoutMs: 20 });
    const deaf = thingWork(quick.spec, () => new Promise<never>(() => {}));
    const { id } = await quick.services.workQueue.enqueue("thing", order(), quick.signal);
    await runWork(quick.services, deaf, delivery(id), testRun());
    expect(await rowOf(id)).toMatchObject({ state: "retrying", code: "deadline_exceeded" });
    await quick.close();
  });

  test("is released when its process stops, and that counts nothing", async () => {
    const dying = await openShopHere();
    const work = thingWork(dying.spec, async (_services, _thing, run) => aborted(run));
    const { id } = await dying.services.workQueue.enqueue("thing", order(), dying.signal);
    const running = dying.drain(work, { runsMax: 1 });
    await until(async () => (await rowOf(id))?.["state"] === "running");
    await dying.services.stopWork();
    await running;
    expect(await rowOf(id)).toMatchObject({ state: "queued", failures: 0, crashes: 0 });
    await dying.close();
  });

  test("that lost its item to somebody else cannot end it", async () => {
    const lines: string[] = [];
    const work = thingWork(shop.spec, async (services: ShopServices, _thing, { itemId }) => {
      await database.sql`update worker.work_items set lease_until = now() - interval '1 s' where id = ${itemId}`;
      await services.workClaims.claim(itemId, "thing", shop.signal);
      return { by: "zombie" };
    });
    const id = await enqueue();
    const run = testRun();
    await runWork(shop.services, work, delivery(id), run);
    lines.push(...run.lines.map(({ event }) => event));
    expect(lines).toContain("work_write_stale");
    expect(await rowOf(id)).toMatchObject({ state: "running", result: null, stale_writes: 1 });
  });
});

describe("a message", () => {
  const sendText = (text: string) => shop.queue("low").sendMessage(text);
  const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64");
  const names: string[] = [];
  const work = () =>
    thingWork(shop.spec, async (_services, { name }) => {
      names.push(name);
      return {};
    });

  test("of another producer becomes an item, once for two with the same key", async () => {
    const name = randomUUID();
    await sendText(encoded({ name, unknownField: 1 }));
    await sendText(encoded({ name, v: 1, kind: "thing" }));
    await shop.drain(work(), { atOnce: 2 });
    const rows = await database.sql`
      select state, tenant, priority, requested_by from worker.work_items where payload ->> 'name' = ${name}`;
    expect(rows.length).toBeLessThanOrEqual(2);
    expect(rows[0]).toEqual({
      state: "succeeded",
      tenant: "adopted",
      priority: "low",
      requested_by: "message",
    });
    expect(names.filter((it) => it === name)).toHaveLength(rows.length);
  });

  test("of another producer that is delivered twice is one item, also after it ended", async () => {
    const name = randomUUID();
    const twice = { ...delivery(""), raw: { name }, messageId: randomUUID() };
    for (let i = 0; i < 2; i += 1) await runWork(shop.services, work(), twice, testRun());
    expect(names.filter((it) => it === name)).toHaveLength(1);
  });

  test.each([
    ["is not JSON", Buffer.from("{oops").toString("base64"), "message_invalid"],
    ["is a number", encoded(42), "message_invalid"],
    ["lacks a field", encoded({ how: "well" }), "message_invalid"],
    ["has an unknown kind", encoded({ name: "x", kind: "other" }), "work_kind_unknown"],
    ["has an unknown version", encoded({ name: "x", v: 99 }), "work_version_unknown"],
    [
      "names an item that nobody knows",
      encoded({ v: 1, item: randomUUID(), kind: "thing" }),
      "work_item_unknown",
    ],
    ["holds a NUL", encoded({ name: "a\0b" }), "message_invalid"],
    ["holds half a character", encoded({ name: "\ud800" }), "message_invalid"],
  ])("that %s is a dead letter with its reason", async (_, text, code) => {
    await sendText(text);
    await shop.drain(work());
    const [row] = await database.sql`
      select state, code, evidence from worker.work_items order by seq desc limit 1`;
    expect(row).toMatchObject({ state: "dead", code, evidence: { queue: shop.queue("low").name } });
    expect(await shop.messages()).toBe(0);
  });

  test("that cannot be sent is sent by the sweeper", async () => {
    const { workBooks, workSweeps } = shop.services;
    const item = {
      ...order(),
      kind: "thing",
      version: 1,
      priority: "normal" as const,
      maxAttempts: 3,
    };
    const { items } = await workBooks.enqueue([item], false, shop.signal);
    const id = items[0]?.id ?? "";
    await database.sql`update worker.work_items set resend_at = now() where id = ${id}`;
    expect(workSweeps).toBeDefined();
    await sweepWork(shop.services, [work()], testRun());
    await shop.drain(work());
    expect(await rowOf(id)).toMatchObject({ state: "succeeded" });
  });
});
