import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { auditLogRoutes } from "../../src/lib/ops/audit-log.http.ts";
import { auditLog } from "../../src/lib/ops/audit-log.supabase.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let send: Send;
beforeAll(async () => {
  database = await openDatabase();
  api = createRpc(await database.supabase());
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  const deps = { auditLog: auditLog(api.rpc) };
  web.route(
    "/",
    auditLogRoutes(() => deps),
  );
  send = sendMounted(web);
});
afterAll(async () => {
  await api.close();
  await database.close();
});

const write = (subject: string, action = "thing_changed", actor = "ana") =>
  database.sql.begin(async (sql) => {
    await sql`set local role service_role`;
    const details = { before: { state: "on" }, after: { state: "off" } };
    await sql`select worker.audit_write(${actor}, ${action}, ${subject}, 'noise', ${sql.json(details)}, 'run-1')`;
  });
const read = async (query: string, role: keyof typeof SECRETS = "admin") => {
  const { status, json } = await send(`/audit-log?${query}`, {
    headers: { "x-api-key": SECRETS[role] },
  });
  return { status, body: json() };
};

describe("GET /audit-log", () => {
  test("tells who changed what, when and why, with the request", async () => {
    await write("thing:told");
    expect(await read("subject=thing:told")).toMatchObject({
      status: 200,
      body: {
        next: null,
        rows: [
          {
            actor: "ana",
            action: "thing_changed",
            subject: "thing:told",
            reason: "noise",
            requestId: "run-1",
            details: { before: { state: "on" }, after: { state: "off" } },
            at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*\+00:00$/),
          },
        ],
      },
    });
  });

  test("filters and pages, newest first", async () => {
    for (const n of [1, 2, 3]) await write(`thing:${n}`, "thing_paged", "bob");
    const first = await read("actor=bob&action=thing_paged&limit=2");
    expect(first.body).toMatchObject({ rows: [{ subject: "thing:3" }, { subject: "thing:2" }] });
    const second = await read(`actor=bob&limit=2&before=${first.body["next"]}`);
    expect(second.body).toMatchObject({ rows: [{ subject: "thing:1" }], next: null });
  });

  test.each(["limit=0", "limit=201", "before=x", "action=No"])(
    "refuses ?%s and names the field",
    async (query) => {
      const { status, body } = await read(query);
      expect(status).toBe(400);
      expect(body["errors"]).toMatchObject([{ field: query.split("=")[0] }]);
    },
  );

  test("is for admins", async () => {
    expect(await read("", "operator")).toMatchObject({ status: 403 });
  });
});
