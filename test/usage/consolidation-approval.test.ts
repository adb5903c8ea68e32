import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { consolidateShard } from "../../src/lib/usage/consolidate-shard.ts";
import { usageRoutes } from "../../src/lib/usage/usage.http.ts";
import { driftRoutes } from "../../src/lib/usage/usage-drift.http.ts";
import type { Drift } from "../../src/lib/usage/usage-drifts.ts";
import { usageExplainRoutes } from "../../src/lib/usage/usage-explain.http.ts";
import { usageExplainLedger } from "../../src/lib/usage/usage-explain.supabase.ts";
import { shardOf } from "../../src/lib/usage/usage-keys.ts";
import { usageCounters, usageTail } from "../../src/lib/usage/usage-log.redis.ts";
import {
  type ConsolidationWorld,
  openConsolidationWorld,
  THIS_MONTH,
} from "../support/consolidation-world.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { testRun } from "../support/test-run.ts";

/** What people decide about differences, over the routes they use. */
let world: ConsolidationWorld;
let send: Send;
let closeRpc: () => Promise<void>;
beforeAll(async () => {
  world = await openConsolidationWorld();
  const { rpc, close } = createRpc(await world.database.supabase());
  closeRpc = close;
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    driftRoutes(() => ({ ...world.deps, driftLedger: world.driftLedger })),
  );
  web.route(
    "/",
    usageRoutes(() => ({
      clock: { now: Date.now },
      usageProducer: world.producer,
      usageReads: world.reads,
      usageCounters: usageCounters(world.redis),
    })),
  );
  web.route(
    "/",
    usageExplainRoutes(() => ({
      clock: { now: Date.now },
      usageExplainLedger: usageExplainLedger(rpc),
      usageTail: usageTail(world.redis),
    })),
  );
  send = sendMounted(web);
});
afterAll(async () => {
  await closeRpc();
  await world.close();
});

type Role = keyof typeof SECRETS;
const post = async (path: string, body: unknown, role: Role = "operator") => {
  const answer = await send(path, {
    method: "POST",
    headers: { "x-api-key": SECRETS[role], "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: answer.status, body: answer.json() };
};
const get = async (path: string) => {
  const answer = await send(path, { headers: { "x-api-key": SECRETS.viewer } });
  return { status: answer.status, body: answer.json() as { rows?: Drift[]; next?: string } };
};
/** What the queue holds is done. */
const work = async () => {
  for (const message of world.consolidations.splice(0)) {
    await consolidateShard(world.deps, message, testRun());
  }
};
/** A tenant with 100 tokens booked whose counter says something else, found and held. */
async function heldTenant(drift: number): Promise<{ tenant: string; id: string }> {
  const tenant = world.ownTenant();
  await world.record({ tenant, tokens: 100 });
  await world.reconcileTenant(tenant);
  await world.tamper(tenant, drift);
  await world.consolidate(tenant);
  const [held] = await world.driftsOf(tenant);
  expect(held?.state).toBe("hold_for_approval");
  return { tenant, id: held?.id ?? "" };
}
const REASON = { reason: "checked with the customer" };

describe("a difference that is held", () => {
  test("is repaired at once when it is approved, and says who, when and why", async () => {
    const { tenant, id } = await heldTenant(2_000_000);
    const answer = await post(`/usage/drift/${id}/approve`, REASON);
    expect(answer).toMatchObject({
      status: 200,
      body: { drift: { state: "approved" }, runId: expect.any(String) },
    });
    await work();
    expect(await world.counterOf(tenant)).toBe("100");
    const [drift] = await world.driftsOf(tenant);
    expect(drift).toMatchObject({
      state: "repaired",
      decisions: [
        {
          decision: "approved",
          repair: "counter",
          who: "the-operator",
          why: "checked with the customer",
        },
      ],
    });
    expect(Date.parse(drift?.decisions[0]?.at ?? "")).toBeGreaterThan(Date.now() - 60_000);
    expect(Date.parse(drift?.repairedAt ?? "")).toBeGreaterThan(Date.now() - 60_000);
    const run = await world.reads.run(String(answer.body["runId"]), new AbortController().signal);
    expect(run).toMatchObject({
      job: "weekly_consolidation",
      trigger: "manual",
      status: "succeeded",
    });
  });

  test("is repaired once, however often it is approved and consolidated", async () => {
    const { tenant, id } = await heldTenant(-3_000_000);
    const approvals = await Promise.all(
      Array.from({ length: 5 }, () => post(`/usage/drift/${id}/approve`, REASON)),
    );
    expect(approvals.map(({ status }) => status)).toEqual(Array(5).fill(200));
    const messages = world.consolidations.splice(0);
    await Promise.all(messages.map((message) => consolidateShard(world.deps, message, testRun())));
    await world.consolidate(tenant);
    expect(await world.counterOf(tenant)).toBe("100");
    const drifts = await world.driftsOf(tenant);
    expect(drifts).toMatchObject([{ state: "repaired", decisions: [{}] }]);
    const late = await post(`/usage/drift/${id}/approve`, REASON);
    expect(late).toMatchObject({ status: 409, body: { code: "usage_drift_not_held" } });
  });

  test("is booked once when the counter is right", async () => {
    const { tenant, id } = await heldTenant(2_000_000);
    await post(`/usage/drift/${id}/approve`, { ...REASON, repair: "ledger" });
    await work();
    await world.consolidate(tenant);
    expect(await world.usedOf(tenant)).toBe("2000100");
    expect(await world.counterOf(tenant)).toBe("2000100");
    expect(await world.adjustmentsOf(tenant)).toEqual([
      { reason: "adjust:redis_ahead", tokens: "2000000", period: THIS_MONTH },
    ]);
    const [row] = await world.database.sql`
      select note from worker.usage_ledger where tenant = ${tenant} and reason like 'adjust:%'`;
    expect(row?.["note"]).toMatchObject({
      key: `drift:${id}`,
      decision: { who: "the-operator", why: "checked with the customer" },
    });
  });

  test("is left alone when it is rejected, week after week, until it changes", async () => {
    const { tenant, id } = await heldTenant(2_000_000);
    const answer = await post(`/usage/drift/${id}/reject`, REASON);
    expect(answer).toMatchObject({
      status: 200,
      body: { drift: { state: "rejected" }, runId: null },
    });
    await world.consolidate(tenant);
    await world.consolidate(tenant);
    expect(await world.counterOf(tenant)).toBe("2000100");
    expect(await world.driftsOf(tenant)).toMatchObject([{ state: "rejected" }]);
    await world.tamper(tenant, 1);
    await world.consolidate(tenant);
    expect((await world.driftsOf(tenant)).map(({ state }) => state)).toEqual([
      "hold_for_approval",
      "superseded",
    ]);
  });

  test("can be decided once more until something was done", async () => {
    const { tenant, id } = await heldTenant(2_000_000);
    await post(`/usage/drift/${id}/reject`, REASON);
    await post(`/usage/drift/${id}/approve`, { reason: "on second thought" });
    await work();
    expect(await world.counterOf(tenant)).toBe("100");
    const [drift] = await world.driftsOf(tenant);
    expect(drift?.decisions.map(({ decision }) => decision)).toEqual(["rejected", "approved"]);
  });

  test("is asked about again when it changed after it was approved", async () => {
    const { tenant, id } = await heldTenant(2_000_000);
    await post(`/usage/drift/${id}/approve`, REASON);
    await world.tamper(tenant, 5_000_000);
    await work();
    expect(await world.counterOf(tenant)).toBe("7000100");
    expect(await world.driftsOf(tenant)).toMatchObject([
      { state: "hold_for_approval", drift: "7000000", decisions: [] },
      { state: "superseded", drift: "2000000", decisions: [{ decision: "approved" }] },
    ]);
  });

  test("is repaired by the next consolidation when the message was lost", async () => {
    const { tenant, id } = await heldTenant(2_000_000);
    await post(`/usage/drift/${id}/approve`, REASON);
    world.consolidations.splice(0);
    await world.consolidate(tenant);
    expect(await world.counterOf(tenant)).toBe("100");
  });

  test("of a total edited by hand becomes the sum of the ledger", async () => {
    const tenant = world.ownTenant();
    await world.record({ tenant, tokens: 100 });
    await world.reconcileTenant(tenant);
    const { sql } = world.database;
    await sql`update worker.usage_totals set tokens = 1, events = 9 where tenant = ${tenant}`;
    await world.consolidate(tenant);
    const [held] = await world.driftsOf(tenant);
    const refused = await post(`/usage/drift/${held?.id}/approve`, {
      ...REASON,
      repair: "counter",
    });
    expect(refused).toMatchObject({ status: 409, body: { code: "usage_drift_repair_refused" } });
    await post(`/usage/drift/${held?.id}/approve`, REASON);
    await work();
    const [total] = await sql`
      select tokens::text, events::text, late::text from worker.usage_totals where tenant = ${tenant}`;
    expect(total).toEqual({ tokens: "100", events: "1", late: "0" });
    expect(await world.adjustmentsOf(tenant)).toEqual([]);
    expect(await world.driftsOf(tenant)).toMatchObject([{ state: "repaired" }]);
  });

  test("a total that was deleted comes back", async () => {
    const tenant = world.ownTenant();
    await world.record({ tenant, tokens: 100 });
    await world.reconcileTenant(tenant);
    await world.database.sql`delete from worker.usage_totals where tenant = ${tenant}`;
    await world.consolidate(tenant);
    const [held] = await world.driftsOf(tenant);
    expect(held).toMatchObject({ cause: "total_edited", drift: "-100", used: "100" });
    await post(`/usage/drift/${held?.id}/approve`, REASON);
    await work();
    expect(await world.usedOf(tenant)).toBe("100");
    expect(await world.tokensOf(tenant)).toBe("100");
  });

  test("a missing counter never makes the ledger forget", async () => {
    const { tenant, id } = await heldTenant(-2_000_000);
    await world.database
      .sql`update worker.usage_drifts set cause = 'redis_key_missing' where id = ${id}`;
    const answer = await post(`/usage/drift/${id}/approve`, { ...REASON, repair: "ledger" });
    expect(answer.status).toBe(409);
    expect(await world.usedOf(tenant)).toBe("100");
  });

  test("is approved together with everything else that its run held", async () => {
    const acme = world.ownTenant();
    const tenants = [acme, ...Array.from({ length: 19 }, () => world.neighbourOf(acme))];
    for (const tenant of tenants) await world.record({ tenant, tokens: 10 });
    await world.reconcileTenant(acme);
    for (const tenant of tenants) await world.tamper(tenant, 3);
    const runId = randomUUID();
    await world.consolidate(acme, { runId });
    expect(await world.counterOf(acme)).toBe("13");
    const other = { run: runId, cause: "redis_behind", ...REASON };
    expect((await post("/usage/drift/approve", other)).body).toEqual({ approved: 0, runId: null });
    const answer = await post("/usage/drift/approve", { run: runId, ...REASON });
    expect(answer.body).toMatchObject({ approved: 20, runId: expect.any(String) });
    await work();
    for (const tenant of tenants) expect(await world.counterOf(tenant)).toBe("10");
  });
});

describe("GET /usage/drift", () => {
  test("filters by tenant, period, state, cause and run, and pages", async () => {
    const { tenant } = await heldTenant(2_000_000);
    await world.tamper(tenant, 1);
    const runId = randomUUID();
    await world.consolidate(tenant, { runId });
    const month = `${String(THIS_MONTH).slice(0, 4)}-${String(THIS_MONTH).slice(4)}`;
    const rowsOf = async (query: string) =>
      (await get(`/usage/drift?tenant=${tenant}${query}`)).body.rows;
    expect(await rowsOf("")).toHaveLength(2);
    expect(await rowsOf(`&period=${month}&state=open`)).toMatchObject([{ drift: "2000001" }]);
    expect(await rowsOf("&state=superseded")).toMatchObject([{ drift: "2000000" }]);
    expect(await rowsOf("&period=2020-01")).toEqual([]);
    expect(await rowsOf("&cause=redis_behind")).toEqual([]);
    expect(await rowsOf(`&run=${randomUUID()}`)).toEqual([]);
    expect((await rowsOf(`&run=${runId}`))?.length).toBe(2);
    const first = await get(`/usage/drift?tenant=${tenant}&limit=1`);
    expect(first.body).toMatchObject({ rows: [{ drift: "2000001" }], next: expect.any(String) });
    const second = await get(`/usage/drift?tenant=${tenant}&limit=1&before=${first.body.next}`);
    expect(second.body).toMatchObject({ rows: [{ drift: "2000000" }] });
  });

  test("is not taken for a tenant of that name, and tenants are still read", async () => {
    expect((await get("/usage/drift")).body).toHaveProperty("rows");
    expect((await get("/usage/drifts")).body).toMatchObject({ tenant: "drifts" });
    // A path is the same, encoded or not.
    expect((await get("/usage/%64rift")).body).toHaveProperty("rows");
    await world.record({ tenant: "drift", tokens: 4 });
    expect((await get("/usage/drift/explain")).body).toMatchObject({ tenant: "drift" });
  });

  test.each([
    "state=odd",
    "cause=odd",
    "run=1",
    "before=x",
    "limit=0",
    "limit=201",
    "period=2026-13",
  ])("refuses ?%s", async (query) => {
    expect((await get(`/usage/drift?${query}`)).status).toBe(400);
  });
});

describe("the routes", () => {
  test.each([
    ["/usage/drift/1/approve", REASON],
    ["/usage/drift/1/reject", REASON],
    ["/usage/drift/approve", { run: randomUUID(), ...REASON }],
    ["/usage-consolidations", {}],
  ])("POST %s is for operators", async (path, body) => {
    expect((await post(path, body, "viewer")).status).toBe(403);
    expect((await post(path, body, "producer")).status).toBe(403);
  });

  test("an unknown difference is named as unknown", async () => {
    for (const action of ["approve", "reject"]) {
      expect(await post(`/usage/drift/999999/${action}`, REASON)).toMatchObject({
        status: 404,
        body: { code: "usage_drift_unknown" },
      });
    }
  });

  test.each([
    ["/usage/drift/x/approve", REASON],
    ["/usage/drift/1/approve", {}],
    ["/usage/drift/1/approve", { reason: " " }],
    ["/usage/drift/1/approve", { ...REASON, repair: "both" }],
    ["/usage/drift/1/reject", { ...REASON, repair: "counter" }],
    ["/usage/drift/approve", REASON],
    ["/usage-consolidations", { shards: [256] }],
    ["/usage-consolidations", { shards: [] }],
    ["/usage-consolidations", { apply: "no" }],
  ])("POST %s with %j is refused", async (path, body) => {
    expect((await post(path, body)).status).toBe(400);
  });

  test("POST /usage-consolidations plans every shard that has counters, or those that are named", async () => {
    const tenant = world.ownTenant();
    await world.record({ tenant });
    const all = await post("/usage-consolidations", { apply: false });
    expect(all.status).toBe(202);
    const messages = world.consolidations.splice(0);
    expect(messages.map(({ shard }) => shard)).toContain(shardOf(tenant));
    expect(messages.every(({ apply }) => !apply)).toBe(true);
    const some = await post("/usage-consolidations", { shards: [7, 9, 7] });
    expect(some.body).toMatchObject({ shards: 2 });
    expect(world.consolidations.splice(0)).toMatchObject([
      { shard: 7, apply: true },
      { shard: 9, apply: true },
    ]);
  });
});
