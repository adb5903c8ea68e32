import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { deadLetterRoutes } from "../../src/lib/queue/dead-letters.http.ts";
import { workRoutes } from "../../src/lib/queue/work.http.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openDatabase, openQueues, type TestDatabase } from "../support/stack.ts";
import { openShop, order, type Shop } from "../support/work-shop.ts";

let database: TestDatabase;
let shop: Shop;
let send: Send;
let tenant = "";
beforeAll(async () => {
  database = await openDatabase();
  const queues = await openQueues();
  shop = await openShop({
    supabase: await database.supabase(),
    connectionString: queues.connectionString,
    queue: queues.uniqueName("things"),
  });
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    workRoutes(() => shop.services),
  );
  web.route(
    "/",
    deadLetterRoutes(() => shop.services),
  );
  send = sendMounted(web);
});
beforeEach(() => {
  tenant = `tenant-${randomUUID()}`;
});
afterAll(async () => {
  await shop.close();
  await database.close();
});

type Role = keyof typeof SECRETS;
type Body = Record<string, unknown>;
const call = async (path: string, body?: unknown, role: Role = "operator") => {
  const { status, json } = await send(path, {
    method: body === undefined ? "GET" : "POST",
    headers: { "x-api-key": SECRETS[role], "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status, body: json() };
};
const create = (over: Body = {}) =>
  call("/jobs/thing", { payload: { name: "a" }, tenant, ...over });

/** A dead item, with the code it died of. */
async function dead(code = "some_code", over: Body = {}): Promise<string> {
  const { services, signal } = shop;
  const { id } = await services.workQueue.enqueue("thing", order({ tenant, ...over }), signal);
  const claim = await services.workClaims.claim(id, "thing", signal);
  if (claim.outcome !== "claimed") throw new Error(claim.outcome);
  const settlement = { outcome: "permanent", code, error: "it broke" } as const;
  await services.workClaims.settle(claim.item, settlement, false, signal);
  return id;
}

describe("POST /jobs/{kind}", () => {
  test("accepts an item and says where it is, and names the live one that it repeats", async () => {
    const first = await create({ dedupeKey: "once", priority: "urgent" });
    expect(first).toMatchObject({ status: 202, body: { id: expect.any(String) } });
    const again = await create({ dedupeKey: "once" });
    expect(again).toEqual({ status: 200, body: first.body });
    const { body } = await call(`/jobs/${first.body["id"]}`, undefined, "viewer");
    expect(body).toMatchObject({
      state: "queued",
      priority: "urgent",
      requestedBy: "the-operator",
      why: { reason: "in_queue" },
      history: [],
    });
  });

  test.each([
    ["an unknown kind", "/jobs/other", {}, 404, "work_kind_unknown"],
    ["an unknown version", "/jobs/thing", { version: 9 }, 400, "work_version_unknown"],
    ["a payload that does not fit", "/jobs/thing", { payload: {} }, 400, "work_payload_invalid"],
    ["an unknown field", "/jobs/thing", { prio: 1 }, 400, "request_invalid"],
    ["an unknown priority", "/jobs/thing", { priority: "asap" }, 400, "request_invalid"],
    ["an empty tenant", "/jobs/thing", { tenant: "" }, 400, "request_invalid"],
    ["a date that is none", "/jobs/thing", { runAt: "soon" }, 400, "request_invalid"],
  ])("refuses %s", async (_, path, over, status, code) => {
    const answer = await call(path, { payload: { name: "a" }, tenant, ...over });
    expect(answer).toMatchObject({ status, body: { code } });
  });

  test("needs an operator", async () => {
    expect((await call("/jobs/thing", {}, "viewer")).status).toBe(403);
  });
});

describe("GET /jobs", () => {
  test("pages through what the filters fit, newest first", async () => {
    const ids: unknown[] = [];
    for (let i = 0; i < 3; i += 1) ids.unshift((await create()).body["id"]);
    const first = await call(`/jobs?tenant=${tenant}&limit=2`);
    expect((first.body["rows"] as Body[]).map(({ id }) => id)).toEqual(ids.slice(0, 2));
    const second = await call(`/jobs?tenant=${tenant}&limit=2&before=${first.body["next"]}`);
    expect((second.body["rows"] as Body[]).map(({ id }) => id)).toEqual(ids.slice(2));
    expect(second.body["next"]).toBeNull();
    for (const query of [
      "state=dead",
      "kind=other",
      "code=x",
      "search=zzz",
      "until=2020-01-01T00:00:00Z",
    ]) {
      expect((await call(`/jobs?tenant=${tenant}&${query}`)).body["rows"], query).toEqual([]);
    }
  });

  test.each(["state=gone", "limit=0", "before=x", "since=yesterday", "code=A"])(
    "refuses ?%s and names the field",
    async (query) => {
      const { status, body } = await call(`/jobs?${query}`);
      expect(status).toBe(400);
      expect(body["errors"]).toMatchObject([{ field: query.split("=")[0] }]);
    },
  );

  test("answers 404 for an item that nobody knows and 400 for what is no id", async () => {
    expect(await call(`/jobs/${randomUUID()}`)).toMatchObject({
      status: 404,
      body: { code: "work_item_unknown" },
    });
    expect((await call("/jobs/12")).status).toBe(400);
  });

  test("tells the story of an item: who had it, how it ended, why it is over", async () => {
    const id = await dead();
    expect((await call(`/jobs/${id}`)).body).toMatchObject({
      state: "dead",
      code: "some_code",
      error: "it broke",
      why: { reason: "ended" },
      history: [{ attempt: 1, fence: "1", outcome: "dead", code: "some_code" }],
    });
  });

  test("accounts for every item", async () => {
    await create();
    const { body } = await call("/jobs/stats", undefined, "viewer");
    expect(body).toMatchObject({ accounting: { unaccounted: "0" } });
    expect(body["groups"]).toContainEqual(expect.objectContaining({ kind: "thing", expired: 0 }));
  });
});

describe("POST /jobs/{id}/cancel", () => {
  const cancel = (id: unknown, role: Role = "operator", body: Body = { reason: "not needed" }) =>
    call(`/jobs/${id}/cancel`, body, role);

  test("ends what waits, once, with who and why", async () => {
    const { id } = (await create()).body;
    expect(await cancel(id)).toMatchObject({ status: 200, body: { outcome: "cancelled" } });
    expect(await cancel(id)).toMatchObject({ status: 409, body: { code: "work_item_ended" } });
    expect((await call(`/jobs/${id}`)).body).toMatchObject({
      state: "cancelled",
      cancelledBy: "the-operator",
      cancelReason: "not needed",
    });
  });

  test("needs an item, an operator and a reason", async () => {
    expect((await cancel(randomUUID())).status).toBe(404);
    expect((await cancel(randomUUID(), "viewer")).status).toBe(403);
    expect((await cancel(randomUUID(), "operator", {})).status).toBe(400);
  });
});

describe("POST /dead-letters/replay", () => {
  const replay = (over: Body) => call("/dead-letters/replay", { reason: "mended", ...over });

  test("moves what was asked for back to work and leaves a receipt", async () => {
    const ids = [await dead(), await dead()];
    const dry = await replay({ ids, dryRun: true });
    expect(dry.body).toMatchObject({ replayId: null, moved: 2, skipped: 0 });
    expect((await call(`/dead-letters?tenant=${tenant}`)).body["rows"]).toHaveLength(2);
    const { status, body } = await replay({ ids: [...ids, randomUUID()] });
    expect({ status, ...body }).toMatchObject({ status: 200, moved: 2, skipped: 1 });
    const receipt = await call(`/dead-letters/replays/${body["replayId"]}`, undefined, "viewer");
    expect(receipt.body).toMatchObject({ actor: "the-operator", reason: "mended", moved: 2 });
    const states = (receipt.body["items"] as Body[]).map(({ outcome, state }) => [outcome, state]);
    expect(states.sort()).toEqual([
      ["moved", "queued"],
      ["moved", "queued"],
      ["unknown", null],
    ]);
    expect((await call(`/jobs/${ids[0]}`)).body).toMatchObject({ replays: 1, failures: 0 });
    const log = await database.sql`
      select actor from worker.audit_log where subject = ${`work_replay:${body["replayId"]}`}`;
    expect(log).toEqual([{ actor: "the-operator" }]);
  });

  test("of a filter moves the oldest that fit, no more than asked for, at the speed asked for", async () => {
    for (const code of ["mended", "mended", "mended", "other"]) await dead(code);
    const { body } = await replay({ filter: { tenant, code: "mended" }, limit: 2, perSecond: 1 });
    expect(body).toMatchObject({ moved: 2, isMore: true });
    const due = (body["items"] as Body[]).map(({ dueAt }) => Date.parse(String(dueAt)));
    expect(Math.max(...due) - Math.min(...due)).toBe(1000);
  });

  test("leaves an item dead whose dedupe key lives again", async () => {
    const id = await dead("some_code", { dedupeKey: "k" });
    await create({ dedupeKey: "k" });
    expect((await replay({ ids: [id] })).body).toMatchObject({
      moved: 0,
      items: [{ outcome: "duplicate" }],
    });
  });

  test("of two operators at once moves each item once, and both receipts add up", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 12; i += 1) ids.push(await dead());
    const both = await Promise.all([
      replay({ ids }),
      replay({ ids: ids.toReversed() }),
      replay({ filter: { tenant } }),
    ]);
    const moved = both.flatMap(({ body }) =>
      (body["items"] as Body[]).filter(({ outcome }) => outcome === "moved").map(({ id }) => id),
    );
    expect(moved.sort()).toEqual(ids.sort());
    expect(both.reduce((sum, { body }) => sum + Number(body["moved"]), 0)).toBe(12);
    const [books] = await database.sql`select worker.work_accounting() as books`;
    expect(books?.["books"]).toMatchObject({ unaccounted: "0" });
  });

  test.each([
    {},
    { ids: [] },
    { ids: ["x"] },
    { filter: {}, ids: [randomUUID()] },
    { filter: { all: true } },
    { filter: {}, perSecond: 0 },
  ])("refuses %o", async (over) => {
    expect((await replay(over)).status).toBe(400);
  });

  test("needs an operator and a reason, and knows its receipts", async () => {
    expect((await call("/dead-letters/replay", { filter: {}, reason: "x" })).status).toBe(400);
    expect((await call("/dead-letters/replay", { filter: {} }, "viewer")).status).toBe(403);
    expect((await call(`/dead-letters/replays/${randomUUID()}`)).body).toMatchObject({
      code: "work_replay_unknown",
    });
  });
});
