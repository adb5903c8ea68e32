import { afterAll, beforeAll, expect, test } from "vitest";
import { exportRoutes } from "../../src/lib/ops/exports.http.ts";
import { exportReads } from "../../src/lib/ops/exports.supabase.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

const NOW = Date.parse("2026-11-24T10:00:00Z");
const FILE = {
  name: "usage-totals",
  path: "exports/2026-11-15/usage-totals.1.ndjson.gz",
  rows: "3",
  bytes: "40",
  contentBytes: "90",
  sha256: "0".repeat(64),
};

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let send: Send;
beforeAll(async () => {
  database = await openDatabase();
  const { url, key } = await database.supabase();
  api = createRpc({ url, key });
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  const exportLinks = {
    link: async (path: string, expiresAt: number) =>
      `https://blobs.test/${path}?until=${expiresAt}`,
  };
  web.route(
    "/",
    exportRoutes(() => ({
      clock: { now: () => NOW },
      exportReads: exportReads(api.rpc),
      exportLinks,
    })),
  );
  send = sendMounted(web);
  const manifest = {
    version: 1,
    week: "2026-11-15",
    format: "ndjson",
    compression: "gzip",
    rows: "3",
    files: [{ ...FILE, columns: ["tenant"] }],
  };
  await database.sql`
    insert into worker.exports (week, format, state, manifest, finished_at, ledger_after, ledger_to)
    values ('2026-11-15', 'ndjson', 'finished', ${database.sql.json(manifest)}, now(), 0, 0),
           ('2026-11-22', 'ndjson', 'running', null, null, 0, 0)`;
});
afterAll(async () => {
  await api.close();
  await database.close();
});

const get = (path: string, role: keyof typeof SECRETS = "viewer") =>
  send(path, { headers: { "x-api-key": SECRETS[role] } });

test("lists exports, the running one too, page by page", async () => {
  const first = (await get("/exports?limit=1")).json();
  expect(first).toMatchObject({ rows: [{ week: "2026-11-22", state: "running" }] });
  const second = (await get(`/exports?limit=1&before=${first["next"]}`)).json();
  expect(second).toMatchObject({ rows: [{ week: "2026-11-15", state: "finished" }] });
});

test("shows the manifest of a finished export, and none of one that is running", async () => {
  expect((await get("/exports/2026-11-15")).json()).toMatchObject({ rows: "3", files: [FILE] });
  for (const week of ["2026-11-22", "2020-01-05"])
    expect((await get(`/exports/${week}`)).json()).toMatchObject({ code: "export_unknown" });
});

test("gives an operator a link that is good for 15 minutes, and a viewer none", async () => {
  const path = "/exports/2026-11-15/files/usage-totals";
  expect((await get(path, "operator")).json()).toEqual({
    name: FILE.name,
    url: `https://blobs.test/${FILE.path}?until=${NOW + 900_000}`,
    expiresAt: "2026-11-24T10:15:00.000Z",
    sha256: FILE.sha256,
  });
  expect((await get(path)).status).toBe(403);
});

test("names what it does not know, and refuses what is no week and no file", async () => {
  expect((await get("/exports/2026-11-15/files/other", "operator")).status).toBe(404);
  expect((await get("/exports/last-week")).status).toBe(400);
  expect((await get("/exports/2026-11-15/files/a.b", "operator")).status).toBe(400);
  expect((await get("/exports?limit=0")).status).toBe(400);
  expect((await send("/exports")).status).toBe(401);
});
