import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { newItem, openWorkWorld, RUNNING_MAX, type WorkWorld } from "./work-world.ts";

let world: WorkWorld;
beforeAll(async () => {
  world = await openWorkWorld();
});
afterAll(() => world.close());
afterEach(async () => {
  expect(await world.accounting(), "every item is in the books").toMatchObject({
    unaccounted: "0",
  });
});

const running = { thing: RUNNING_MAX };
const enqueueAll = (items: unknown[]) =>
  world.call<{ items: { id: string; isDuplicate: boolean }[]; send: { id: string }[] }>(
    "work_enqueue",
    { p_items: items, p_running_max: running },
  );

describe("enqueue", () => {
  test("accepts items in the order given and says which may be sent", async () => {
    const [first, second] = [newItem(), newItem()];
    const { items, send } = await enqueueAll([first, second]);
    expect(items).toMatchObject([{ isDuplicate: false }, { isDuplicate: false }]);
    expect(send.map(({ id }) => id).sort()).toEqual(items.map(({ id }) => id).sort());
    expect(await world.row(items[1]?.id ?? "")).toMatchObject({ tenant: second["tenant"] });
  });

  test("takes a live item with the same dedupe key for the same item, also within one call", async () => {
    const item = newItem({ dedupeKey: "k" });
    const { items } = await enqueueAll([item, item]);
    expect(items.map(({ isDuplicate }) => isDuplicate)).toEqual([false, true]);
    expect(items[0]?.id).toBe(items[1]?.id);
    const id = items[0]?.id ?? "";
    const { fence } = await world.claim(id);
    expect((await enqueueAll([item])).items).toEqual([{ id, isDuplicate: true }]);
    await world.settle(id, fence, "succeeded");
    expect((await enqueueAll([item])).items).toMatchObject([{ isDuplicate: false }]);
    const other = { ...item, tenant: "another" };
    expect((await enqueueAll([other])).items).toMatchObject([{ isDuplicate: false }]);
  });

  test("makes one item of one message, also after that item ended", async () => {
    const item = newItem({ source: randomUUID() });
    const id = await world.enqueue(item);
    const { fence } = await world.claim(id);
    await world.settle(id, fence, "succeeded");
    expect((await enqueueAll([item])).items).toEqual([{ id, isDuplicate: true }]);
  });

  test("lets as many items of a tenant out as may run, the most urgent first", async () => {
    const tenant = randomUUID();
    const low = Array.from({ length: 5 }, () => newItem({ tenant, priority: "low" }));
    const first = await enqueueAll(low);
    expect(first.send).toHaveLength(RUNNING_MAX);
    const urgent = await enqueueAll([newItem({ tenant, priority: "urgent" })]);
    expect(urgent.send).toHaveLength(1);
    expect((await enqueueAll([newItem({ tenant, priority: "low" })])).send).toHaveLength(0);
  });

  test("sends what starts soon with a delay, and keeps what starts later", async () => {
    const { send } = await enqueueAll([newItem({ delayMs: 30_000 })]);
    expect(send).toMatchObject([{ delayMs: expect.any(Number) }]);
    expect((await enqueueAll([newItem({ delayMs: 3_600_000 })])).send).toEqual([]);
  });

  test("refuses more than 1000 items, and a priority that nobody knows", async () => {
    await expect(enqueueAll(Array.from({ length: 1001 }, () => newItem()))).rejects.toThrow(
      "work_argument_invalid",
    );
    await expect(world.enqueue({ priority: "soon" })).rejects.toThrow("work_items_priority_check");
  });
});

describe("a claim", () => {
  test("goes to one of many, with a fence and the payload", async () => {
    const id = await world.enqueue({ payload: { a: 1 } });
    const claims = await Promise.all(Array.from({ length: 5 }, () => world.claim(id)));
    const taken = claims.filter(({ outcome }) => outcome === "claimed");
    expect(taken).toMatchObject([{ fence: 1, attempt: 1, payload: { a: 1 } }]);
    expect(claims.filter(({ outcome }) => outcome === "busy")).toHaveLength(4);
  });

  test("says that an item is unknown, over, or not due, and then how long to wait", async () => {
    expect(await world.claim(randomUUID())).toEqual({ outcome: "unknown" });
    const id = await world.enqueue({ delayMs: 5000 });
    expect(await world.claim(id)).toMatchObject({ outcome: "not_due", priority: "normal" });
    await world.makeDue(id);
    const { fence } = await world.claim(id);
    await world.settle(id, fence, "succeeded");
    expect(await world.claim(id)).toEqual({ outcome: "gone" });
  });

  test("above the limit of its tenant waits for its turn, which comes when another one ends", async () => {
    const tenant = randomUUID();
    const { items } = await enqueueAll(
      Array.from({ length: RUNNING_MAX + 1 }, () => newItem({ tenant })),
    );
    const ids = items.map(({ id }) => id);
    const claims = await Promise.all(ids.slice(0, RUNNING_MAX).map((id) => world.claim(id)));
    const last = ids[RUNNING_MAX] ?? "";
    expect(await world.claim(last)).toEqual({ outcome: "throttled" });
    expect(await world.row(last)).toMatchObject({ state: "queued", sent_at: null, attempts: 0 });
    const settled = await world.settle(ids[0] ?? "", claims[0]?.["fence"], "succeeded");
    expect(settled).toMatchObject({ state: "succeeded", send: [{ id: last, delayMs: 0 }] });
  });

  test("takes an item over whose lease ran out, and counts a crash", async () => {
    const id = await world.enqueue();
    await world.claim(id);
    await world.expire(id);
    expect(await world.claim(id)).toMatchObject({ outcome: "claimed", fence: 2, attempt: 2 });
    expect(await world.row(id)).toMatchObject({ crashes: 1, failures: 0 });
    const story = await world.sql`
      select outcome from worker.work_attempts where item_id = ${id} order by fence`;
    expect(story.map(({ outcome }) => outcome)).toEqual(["crashed", null]);
  });

  test("of an item that took three workers down ends it as poison", async () => {
    const id = await world.enqueue();
    for (let crash = 1; crash <= 3; crash += 1) {
      const claim = await world.claim(id);
      if (crash > 2) {
        expect(claim, "neighbours part").toMatchObject({ outcome: "not_due" });
        await world.makeDue(id);
        await world.claim(id);
      }
      expect(await world.row(id)).toMatchObject({ state: "running", attempts: crash });
      await world.expire(id);
    }
    expect(await world.claim(id)).toMatchObject({ outcome: "ended", state: "dead" });
    expect(await world.row(id)).toMatchObject({ code: "work_poison", crashes: 3 });
  });

  test("of an item that took two workers down runs alone in its process", async () => {
    const [suspect, neighbour, later] = [
      await world.enqueue(),
      await world.enqueue(),
      await world.enqueue(),
    ];
    await world.sql`update worker.work_items set crashes = 2 where id = ${suspect}`;
    const worker = { p_worker: randomUUID() };
    const { fence } = await world.claim(neighbour, worker);
    expect(await world.claim(suspect, worker)).toMatchObject({ outcome: "alone" });
    await world.settle(neighbour, fence, "succeeded");
    expect(await world.claim(suspect, worker)).toMatchObject({ outcome: "claimed" });
    expect(await world.claim(later, worker)).toMatchObject({ outcome: "alone" });
    expect(await world.claim(later)).toMatchObject({ outcome: "claimed" });
  });
});

describe("an ending", () => {
  const claimed = async (item = {}) => {
    const id = await world.enqueue(item);
    const { fence } = await world.claim(id);
    return { id, fence };
  };

  test("by a worker that lost the item changes nothing and is counted", async () => {
    const { id, fence } = await claimed();
    await world.expire(id);
    const second = await world.claim(id);
    expect(await world.settle(id, fence, "succeeded")).toEqual({ status: "stale" });
    expect(await world.row(id)).toMatchObject({ state: "running", stale_writes: 1 });
    const beat = { p_id: id, p_lease_ms: 60_000 };
    expect(await world.call("work_heartbeat", { ...beat, p_fence: fence })).toMatchObject({
      isHeld: false,
    });
    expect(await world.call("work_heartbeat", { ...beat, p_fence: second["fence"] })).toMatchObject(
      { isHeld: true, isCancelled: false },
    );
    await expect(world.call("work_assert_fence", { p_id: id, p_fence: fence })).rejects.toThrow(
      "work_fence_stale",
    );
    await world.call("work_assert_fence", { p_id: id, p_fence: second["fence"] });
  });

  test("repeated after a lost reply says the same and counts once", async () => {
    const { id, fence } = await claimed();
    const first = await world.settle(id, fence, "transient", { p_random: 0.5 });
    expect(first).toMatchObject({ status: "ok", state: "retrying", delayMs: 15_000 });
    expect(await world.settle(id, fence, "transient", { p_random: 0.5 })).toMatchObject({
      status: "ok",
      state: "retrying",
    });
    expect(await world.row(id)).toMatchObject({ failures: 1, stale_writes: 0 });
  });

  test.each([
    [1, 0.5, 0, 15_000],
    [1, 0, 90_000, 90_000],
    [2, 0.5, 0, 30_000],
    [5, 0.5, 0, 240_000],
    [20, 0.999, 0, 21_578_400],
  ])(
    "after %i failures with luck %d and a wait of %i ms comes back after %i ms",
    async (failures, random, wait, delayMs) => {
      const { id, fence } = await claimed({ maxAttempts: 100 });
      await world.sql`update worker.work_items set failures = ${failures - 1} where id = ${id}`;
      const settled = await world.settle(id, fence, "transient", {
        p_random: random,
        p_delay_ms: wait,
      });
      expect(settled).toMatchObject({ state: "retrying", delayMs });
    },
  );

  test("is death at once for a permanent error, and after the last attempt for a transient one", async () => {
    const permanent = await claimed();
    expect(await world.settle(permanent.id, permanent.fence, "permanent")).toMatchObject({
      state: "dead",
      delayMs: null,
    });
    const transient = await claimed({ maxAttempts: 1 });
    expect(await world.settle(transient.id, transient.fence, "transient")).toMatchObject({
      state: "dead",
    });
    expect(await world.row(transient.id)).toMatchObject({ code: "some_code", failures: 1 });
  });

  test("by release puts the item back as it was", async () => {
    const { id, fence } = await claimed();
    expect(await world.settle(id, fence, "released")).toMatchObject({
      state: "queued",
      delayMs: 0,
    });
    expect(await world.claim(id)).toMatchObject({ outcome: "claimed", attempt: 1, fence: 2 });
  });
});

describe("cancel", () => {
  const cancel = (id: string) =>
    world.call("work_cancel", {
      p_id: id,
      p_who: "ana",
      p_reason: "not needed",
      p_running_max: running,
    });

  test("ends what waits at once, and tells the one that runs", async () => {
    const waiting = await world.enqueue();
    expect(await cancel(waiting)).toMatchObject({ outcome: "cancelled", state: "cancelled" });
    expect(await world.claim(waiting)).toEqual({ outcome: "gone" });
    expect(await cancel(waiting)).toMatchObject({ outcome: "ended" });
    expect(await cancel(randomUUID())).toMatchObject({ outcome: "unknown" });

    const id = await world.enqueue();
    const { fence } = await world.claim(id);
    expect(await cancel(id)).toMatchObject({ outcome: "requested" });
    expect(await cancel(id)).toMatchObject({ outcome: "already_requested" });
    const beat = { p_id: id, p_fence: fence, p_lease_ms: 60_000 };
    expect(await world.call("work_heartbeat", beat)).toMatchObject({ isCancelled: true });
    expect(await world.settle(id, fence, "cancelled")).toMatchObject({ state: "cancelled" });
    const log = await world.sql`
      select action from worker.audit_log where subject = ${`work:${id}`}`;
    expect(log).toHaveLength(1);
  });

  test("lets the next item of the tenant in", async () => {
    const tenant = randomUUID();
    const { items } = await enqueueAll(
      Array.from({ length: RUNNING_MAX + 1 }, () => newItem({ tenant })),
    );
    expect(await cancel(items[0]?.id ?? "")).toMatchObject({
      send: [{ id: items[RUNNING_MAX]?.id }],
    });
  });

  test("of an item whose worker vanished holds when it is taken over", async () => {
    const id = await world.enqueue();
    await world.claim(id);
    await cancel(id);
    await world.expire(id);
    expect(await world.claim(id)).toMatchObject({ outcome: "ended", state: "cancelled" });
  });
});

describe("the sweeper", () => {
  const kinds = { p_kinds: ["thing"], p_limit: 500 };

  test("takes items from workers that vanished and lets them in again", async () => {
    const id = await world.enqueue();
    await world.claim(id);
    await world.expire(id);
    const swept = await world.call("work_sweep_expired", { p_kind: "thing", p_limit: 100 });
    expect(swept).toEqual({ recovered: 1, ended: 0 });
    expect(await world.row(id)).toMatchObject({ state: "retrying", crashes: 1, sent_at: null });
    const { send } = await world.call<{ send: { id: string }[] }>("work_sweep_waiting", {
      p_running_max: running,
    });
    expect(send.map((it) => it.id)).toContain(id);
    expect(await world.claim(id)).toMatchObject({ outcome: "claimed" });
  });

  test("sends a message again that was lost, later and later", async () => {
    const id = await world.enqueue();
    const lost = () => world.call<{ id: string }[]>("work_sweep_lost", kinds);
    const ids = async () => (await lost()).map((it) => it.id);
    expect(await ids()).not.toContain(id);
    await world.sql`update worker.work_items set resend_at = now() - interval '1 s' where id = ${id}`;
    expect(await ids()).toContain(id);
    expect(await ids()).not.toContain(id);
    const [row] = await world.sql`
      select extract(epoch from resend_at - sent_at)::int as seconds from worker.work_items where id = ${id}`;
    expect(row).toEqual({ seconds: 600 });
  });

  test("walks all tenants, page by page", async () => {
    const tenants = ["a", "b", "c"].map((name) => `${name}-${randomUUID()}`);
    for (const tenant of tenants) {
      const { items } = await enqueueAll([newItem({ tenant })]);
      await world.sql`update worker.work_items set sent_at = null, resend_at = null where id = ${items[0]?.id ?? ""}`;
    }
    const seen: string[] = [];
    let after: unknown = null;
    for (let page = 0; page < 50; page += 1) {
      const answer = await world.call<{ send: { id: string }[]; next: unknown }>(
        "work_sweep_waiting",
        { p_running_max: running, p_after: after, p_limit: 1 },
      );
      seen.push(...answer.send.map(({ id }) => id));
      after = answer.next;
      if (after === null) break;
    }
    expect(seen.length).toBeGreaterThanOrEqual(3);
    const [left] = await world.sql`
      select count(*)::int as n from worker.work_items where tenant in ${world.sql(tenants)} and sent_at is null`;
    expect(left).toEqual({ n: 0 });
  });

  test("gives an ending that its feature does not know to one caller at a time", async () => {
    const id = await world.enqueue();
    const { fence } = await world.claim(id);
    await world.settle(id, fence, "permanent", { p_has_settle: true });
    const unsettled = async () =>
      (await world.call<{ id: string }[]>("work_sweep_unsettled", kinds)).map((it) => it.id);
    expect(await unsettled()).not.toContain(id);
    await world.sql`update worker.work_items set settle_at = now() where id = ${id}`;
    expect(await unsettled()).toContain(id);
    expect(await unsettled()).not.toContain(id);
    await world.call("work_settled", { p_ids: [id] });
    expect(await world.row(id)).toMatchObject({ settle_at: null });
  });
});

describe("the books", () => {
  test("hold a message that nobody understands once, as a dead letter", async () => {
    const args = {
      p_source: randomUUID(),
      p_kind: "unknown",
      p_version: 0,
      p_tenant: "-",
      p_priority: "low",
      p_code: "message_invalid",
      p_error: "not JSON",
      p_evidence: { queue: "things-low", message: "{" },
    };
    const first = await world.call("work_reject", args);
    expect(first).toMatchObject({ isDuplicate: false });
    expect(await world.call("work_reject", args)).toEqual({ ...first, isDuplicate: true });
  });

  test("show an item that went astray", async () => {
    const id = await world.enqueue();
    const [copy] = await world.sql`delete from worker.work_items where id = ${id} returning kind`;
    expect(copy).toEqual({ kind: "thing" });
    expect(await world.accounting()).toMatchObject({ unaccounted: "1" });
    await world.sql`update worker.work_counters set accepted = accepted - 1 where (kind, slot) in (
      select kind, slot from worker.work_counters where accepted > 0 limit 1)`;
  });
});
