import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { alertRoutes } from "../../src/lib/ops/alerts.http.ts";
import { alertLedger, incidents } from "../../src/lib/ops/alerts.supabase.ts";
import { createAlerts } from "../../src/lib/ops/alerts.ts";
import { invocationLogger } from "../../src/lib/runtime/current-run.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { runTrigger } from "../../src/lib/runtime/run-trigger.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, invocation, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let send: Send;
const clock = { now: Date.now };
beforeAll(async () => {
  database = await openDatabase();
  const { url, key } = await database.supabase();
  api = createRpc({ url, key });
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    alertRoutes(() => ({ clock, incidents: incidents(api.rpc) })),
  );
  send = sendMounted(web);
});
afterAll(async () => {
  await api.close();
  await database.close();
});

type Role = keyof typeof SECRETS;
const call = async (path: string, role: Role = "viewer", body?: unknown) => {
  const { status, json } = await send(path, {
    method: body === undefined ? "GET" : "POST",
    headers: { "x-api-key": SECRETS[role], "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status, body: json() };
};

const alerts = () =>
  createAlerts({ clock, alertLedger: alertLedger(api.rpc), log: invocationLogger });
const raise = (key: string, level: "warning" | "critical" = "warning") =>
  alerts().raise(
    { key, level, title: "Wrong", evidence: {}, runbook: "docs/operations/README.md" },
    new AbortController().signal,
  );
const idOf = async (key: string): Promise<string> => {
  const [row] = await database.sql`select id::text from worker.alerts where key = ${key}`;
  return String(row?.["id"]);
};

test("an alert is told through the logger of the invocation that raises it", async () => {
  const { lines, context } = invocation("someJob");
  await runTrigger(context, () => raise("told:once", "critical"));
  expect(lines).toMatchObject([
    { level: "error", fields: { event: "alert_raised", key: "told:once", function: "someJob" } },
    { fields: { event: "run_done" } },
  ]);
});

describe("GET /alerts", () => {
  test("shows what is open, by state, level and kind, page by page", async () => {
    for (const key of ["listed:a", "listed:b", "listed:c"]) await raise(key);
    const first = await call("/alerts?kind=listed&limit=2");
    expect(first).toMatchObject({
      status: 200,
      body: { rows: [{ key: "listed:c", state: "firing" }, { key: "listed:b" }] },
    });
    const second = await call(`/alerts?kind=listed&limit=2&before=${first.body["next"]}`);
    expect(second.body).toMatchObject({ rows: [{ key: "listed:a" }], next: null });
    expect((await call("/alerts?kind=listed&level=critical")).body["rows"]).toEqual([]);
    expect((await call("/alerts?kind=listed&state=resolved")).body["rows"]).toEqual([]);
  });

  test.each(["state=gone", "level=loud", "kind=no%20kind", "before=x", "limit=201"])(
    "refuses ?%s and names the field",
    async (query) => {
      const { status, body } = await call(`/alerts?${query}`);
      expect(status).toBe(400);
      expect(body["errors"]).toMatchObject([{ field: query.split("=")[0] }]);
    },
  );
});

describe("POST /alerts/{id}/acknowledge", () => {
  const acknowledge = (id: string, role: Role = "operator", body: unknown = { reason: "on it" }) =>
    call(`/alerts/${id}/acknowledge`, role, body);

  test("says who takes care of it, and keeps to the first", async () => {
    await raise("mine:1");
    const id = await idOf("mine:1");
    const first = await acknowledge(id);
    expect(first).toMatchObject({
      status: 200,
      body: { outcome: "acknowledged", acknowledgedBy: "the-operator" },
    });
    expect(await acknowledge(id, "admin")).toMatchObject({
      status: 200,
      body: { outcome: "already_acknowledged", acknowledgedBy: "the-operator" },
    });
    const { body } = await call("/alerts?kind=mine&state=acknowledged");
    expect(body).toMatchObject({ rows: [{ acknowledgedReason: "on it" }] });
  });

  test("answers that nobody knows it, or that it is over", async () => {
    expect(await acknowledge("999999")).toMatchObject({
      status: 404,
      body: { code: "alert_unknown" },
    });
    await raise("over:1");
    await alerts().resolve("over:1", new AbortController().signal);
    expect(await acknowledge(await idOf("over:1"))).toMatchObject({
      status: 409,
      body: { code: "alert_resolved" },
    });
  });

  test("needs an operator and a reason", async () => {
    await raise("strict:1");
    const id = await idOf("strict:1");
    expect(await acknowledge(id, "viewer")).toMatchObject({ status: 403 });
    expect(await acknowledge(id, "operator", {})).toMatchObject({ status: 400 });
    expect(await acknowledge("x")).toMatchObject({ status: 400 });
  });
});
