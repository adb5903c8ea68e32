import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { legacyRoutes } from "../../src/lib/usage/legacy/legacy.http.ts";
import { legacyCounters } from "../../src/lib/usage/legacy/legacy-lanes.redis.ts";
import { legacyReads } from "../../src/lib/usage/legacy/legacy-reads.supabase.ts";
import type { PreviewLegacyDeps } from "../../src/lib/usage/legacy/preview-legacy.ts";
import { usageRoutes } from "../../src/lib/usage/usage.http.ts";
import { usageCounters } from "../../src/lib/usage/usage-log.redis.ts";
import { hasProgram, openRedisServer } from "../runtime/own-redis-server.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { type LegacyWorld, openLegacyWorld, pendingRecord } from "../support/legacy-world.ts";
import { signal } from "../support/usage-world.ts";

let world: LegacyWorld;
let deps: PreviewLegacyDeps;
let send: Send;
beforeAll(async () => {
  world = await openLegacyWorld();
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    legacyRoutes(() => ({ ...deps, legacyReads: legacyReads(world.worker) })),
  );
  web.route(
    "/",
    usageRoutes(() => ({
      clock: { now: Date.now },
      usageProducer: world.usage.producer,
      usageReads: world.reads,
      usageCounters: usageCounters(world.redis),
    })),
  );
  send = sendMounted(web);
});
afterAll(() => world.close());
beforeEach(async () => {
  deps = { ...world.deps, legacyReads: legacyReads(world.worker) };
  await world.drain();
});
afterEach(() => world.server.flush());

type Role = keyof typeof SECRETS;
const call = async (path: string, role: Role = "operator", body?: unknown) => {
  const answer = await send(path, {
    method: body === undefined ? "GET" : "POST",
    headers: { "x-api-key": SECRETS[role], "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, body: answer.json() };
};
const tenantName = () => `acme-${randomUUID()}`;

describe("GET /usage/legacy", () => {
  test("says what each lane guarantees, what it booked, and how the last run went", async () => {
    const acme = tenantName();
    await world.produce({ tenant: acme, tokens: 5 });
    await world.produce({ tenant: acme, tokens: 7, direct: "failed" });
    const runId = await world.drain();
    const { status, body } = await call("/usage/legacy", "viewer");
    expect(status).toBe(200);
    expect(body).toMatchObject({
      lanes: [
        { lane: "log", guarantee: "exact", state: "on", uses: null },
        {
          lane: "legacy_pending",
          guarantee: "exactly once, best effort on direct timeouts",
          state: "on",
        },
        { lane: "legacy_direct", guarantee: "exact per call", state: "on" },
        { lane: "legacy_counter", guarantee: "best effort", state: "on", uses: 0, tokens: "0" },
      ],
      lastRun: { runId, status: "succeeded", booked: 1, tokens: "7", counters: "compared" },
      days: 35,
    });
    const [, pending, direct] = body["lanes"] as { tokens: string; lastBookedOn: string }[];
    expect(BigInt(pending?.tokens ?? 0)).toBeGreaterThanOrEqual(7n);
    expect(BigInt(direct?.tokens ?? 0)).toBeGreaterThanOrEqual(5n);
    expect(direct?.lastBookedOn).toBe(new Date().toISOString().slice(0, 10));
  });

  test("shows what does not add up, and who it is", async () => {
    const acme = tenantName();
    await world.produce({ tenant: acme, tokens: 5 });
    await world.drain();
    await world.produce({ tenant: acme, tokens: 40, direct: "late" });
    await world.drain();
    const { body } = await call("/usage/legacy?limit=1", "viewer");
    expect(body["findings"]).toMatchObject([
      { tenant: acme, kind: "drift", cause: "direct_committed_and_pending", tokens: "-40" },
    ]);
    expect(body["tenantsApart"]).toMatchObject([{ tenant: acme, apart: "-40" }]);
    expect(body["runs"]).toHaveLength(1);
  });

  test("says which lanes are off", async () => {
    deps = {
      ...deps,
      legacyConfig: { ...deps.legacyConfig, pendingKey: undefined, counterPattern: undefined },
    };
    const { body } = await call("/usage/legacy", "viewer");
    expect(body["lanes"]).toMatchObject([{}, { state: "off" }, { state: "on" }, { state: "off" }]);
    expect((await call("/usage/legacy/preview")).body).toMatchObject({
      pending: { state: "off" },
      counters: { state: "off" },
    });
  });

  test.each(["0", "201", "many"])("refuses the limit %s", async (limit) => {
    expect((await call(`/usage/legacy?limit=${limit}`, "viewer")).status).toBe(400);
  });
});

describe("GET /usage/legacy/preview", () => {
  test("shows what a drain would book and changes nothing", async () => {
    const [acme, beta] = [tenantName(), tenantName()];
    await world.count(beta, 100);
    await world.drain();
    const known = pendingRecord({ tenant_id: acme, tokens: 1 });
    await world.pend(known);
    await world.drain();
    await world.pend(
      known,
      pendingRecord({ tenant_id: acme, tokens: 7 }),
      pendingRecord({ tenant_id: acme, tokens: 5 }),
      "not json",
    );
    await world.count(beta, 11);
    deps = { ...deps, legacyConfig: { ...deps.legacyConfig, counterTenants: new Set([beta]) } };
    const before = await world.booksOf(acme);
    const { status, body } = await call("/usage/legacy/preview");
    expect(status).toBe(200);
    expect(body).toMatchObject({
      pending: {
        state: "read",
        size: 4,
        read: 4,
        isComplete: true,
        wouldBook: { uses: 2, tokens: "12" },
        duplicates: 1,
        wouldSetAside: 1,
        tenants: [{ tenant: acme, uses: 2, tokens: "12" }],
        setAsideSamples: [{ error: "not_json", raw: '["legacy_pending","not json"]' }],
      },
      counters: {
        state: "read",
        isComplete: true,
        isBased: true,
        grown: "11",
        wouldBook: "11",
        tenants: [{ tenant: beta, grown: "11", books: true }],
        samples: [{ kind: "growth", from: "100", to: "111" }],
      },
    });
    expect(await world.members()).toHaveLength(4);
    expect(await world.booksOf(acme)).toEqual(before);
    expect(await world.booksOf(beta)).toMatchObject({ totals: "0" });
    await world.drain({ ...world.deps, legacyConfig: deps.legacyConfig });
    expect(await world.booksOf(acme)).toMatchObject({ totals: "13" });
    expect(await world.booksOf(beta)).toMatchObject({ totals: "11" });
  });

  test("reads no more than it was asked for, and says so", async () => {
    const acme = tenantName();
    for (let i = 0; i < 30; i += 1) await world.pend(pendingRecord({ tenant_id: acme }));
    const { body } = await call("/usage/legacy/preview?limit=10");
    expect(body["pending"]).toMatchObject({ size: 30, read: 10, isComplete: false });
    expect((await call("/usage/legacy/preview?limit=5001")).status).toBe(400);
  });

  test("is for operators", async () => {
    expect((await call("/usage/legacy/preview", "viewer")).status).toBe(403);
    expect((await send("/usage/legacy/preview")).status).toBe(401);
  });
});

describe("POST /usage/legacy/tenants/{tenant}/accept", () => {
  test("ends what is apart, once, with who and why", async () => {
    const acme = tenantName();
    await world.produce({ tenant: acme, tokens: 5 });
    await world.drain();
    await world.produce({ tenant: acme, tokens: 40, direct: "late" });
    await world.drain();
    const path = `/usage/legacy/tenants/${acme}/accept`;
    const reason = "credited by hand";
    expect(await call(path, "operator", { reason })).toEqual({
      status: 200,
      body: { tenant: acme, accepted: "-40" },
    });
    expect(await call(path, "operator", { reason })).toMatchObject({
      status: 404,
      body: { code: "usage_legacy_not_apart" },
    });
    expect(await world.findingsOf(acme)).toMatchObject([
      { cause: "direct_committed_and_pending" },
      { cause: "accepted", tokens: "40", evidence: { who: "the-operator", why: reason } },
    ]);
    expect((await call(path, "operator", { reason: "" })).status).toBe(400);
    expect((await call(path, "viewer", { reason })).status).toBe(403);
  });
});

test("a total keeps what came through a legacy lane out of what is pending in Redis", async () => {
  const acme = tenantName();
  await world.usage.record({ tenant: acme, tokens: 30 });
  await world.usage.reconcile();
  await world.produce({ tenant: acme, tokens: 12 });
  const { body } = await call(`/usage/${acme}`, "viewer");
  expect(body).toMatchObject({ used: "42", legacy: "12", recorded: "30", pending: "0" });
});

test.skipIf(!hasProgram("redis-server"))("a cluster says that it is one", async () => {
  const server = await openRedisServer((port) => ["--port", `${port}`, "--cluster-enabled", "yes"]);
  const redis = createIoredisDriver({ url: `redis://127.0.0.1:${server.port}` });
  try {
    expect(await legacyCounters(redis).canScan(signal)).toBe(false);
    expect(await world.deps.legacyCounters.canScan(signal)).toBe(true);
  } finally {
    await redis.close();
    await server.close();
  }
});
