import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { documentIndex, documentReads } from "../../src/lib/documents/document-reads.supabase.ts";
import { documentRequests } from "../../src/lib/documents/document-requests.supabase.ts";
import type { DocumentQueue } from "../../src/lib/documents/document-requests.ts";
import { documentRoutes } from "../../src/lib/documents/documents.http.ts";
import { createLexHash } from "../../src/lib/documents/embed/lex-hash.ts";
import { processDocument } from "../../src/lib/documents/process-document.ts";
import { searchRoutes } from "../../src/lib/documents/search.http.ts";
import { transient } from "../../src/lib/kernel/errors.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { documentRun, longText, openPipelineWorld, type PipelineWorld } from "./pipeline-world.ts";

let world: PipelineWorld;
let api: ReturnType<typeof createRpc>;
let send: Send;
/** The queue of these tests remembers what it was asked; `isAway` makes it fail. */
const queue = { asked: [] as string[], cancelled: [] as string[], isAway: false };
const documentQueue: DocumentQueue = {
  enqueue: async ({ documentId }) => {
    if (queue.isAway) throw transient("queue_unavailable");
    queue.asked.push(documentId);
    return { id: randomUUID() };
  },
  cancel: async (itemId) => void queue.cancelled.push(itemId),
};

beforeAll(async () => {
  world = await openPipelineWorld();
  const { url, key } = await world.database.supabase();
  api = createRpc({ url, key });
  const deps = {
    documentQueue,
    documentRequests: documentRequests(api.rpc),
    documentReads: documentReads(api.rpc),
    documentIndex: documentIndex(api.rpc),
    documentsConfig: { containers: ["documents"] },
    embedder: createLexHash(),
  };
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    searchRoutes(() => deps),
  );
  web.route(
    "/",
    documentRoutes(() => deps),
  );
  send = sendMounted(web);
});
afterAll(async () => {
  await api.close();
  await world.close();
});

type Role = keyof typeof SECRETS;
const call = async (method: string, path: string, body?: unknown, role: Role = "operator") => {
  const { status, json, lines } = await send(path, {
    method,
    headers: { "x-api-key": SECRETS[role], "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status, body: json(), lines };
};
const events = (lines: readonly { fields: Record<string, unknown> }[]) =>
  lines.map(({ fields }) => fields["event"]);

const registration = (workspace: string, parts: Record<string, unknown> = {}) => ({
  workspace,
  name: "Contrato.pdf",
  storage: "azure",
  path: `${workspace}/contrato ñ.pdf`,
  ...parts,
});
const reason = { reason: "a test wants it" };
const ready = async () => {
  const added = await world.add(longText("contrato", 12));
  await processDocument(world.deps, added.message, documentRun());
  return added;
};

describe("POST /documents", () => {
  test("registers a stored file and asks the queue for it", async () => {
    const workspace = randomUUID();
    const first = await call("POST", "/documents", registration(workspace));
    expect(first).toMatchObject({ status: 202, body: { isNew: true } });
    expect(queue.asked).toContain(first.body["id"]);
    const again = await call("POST", "/documents", registration(workspace));
    expect(again).toMatchObject({ status: 202, body: { id: first.body["id"], isNew: false } });
    const found = await call("GET", `/documents/${first.body["id"]}?workspace=${workspace}`);
    expect(found).toMatchObject({
      status: 200,
      body: { status: "PENDING", state: "queued", isSearchable: false, name: "Contrato.pdf" },
    });
  });

  test("keeps the request when the queue is away", async () => {
    queue.isAway = true;
    const workspace = randomUUID();
    const answer = await call("POST", "/documents", registration(workspace));
    queue.isAway = false;
    expect(answer).toMatchObject({ status: 202, body: { workItem: null } });
    expect(events(answer.lines)).toContain("document_not_enqueued");
    expect(await world.row(String(answer.body["id"]))).toMatchObject({ state: "queued" });
  });

  test.each([
    ["path", { path: "someone-else/contrato.pdf" }],
    ["path", { path: "WORKSPACE/../secret.pdf" }],
    ["path", { path: "WORKSPACE/a\\b.pdf" }],
    ["path", { path: "WORKSPACE/a\u0000.pdf" }],
    ["path", { path: "WORKSPACE//a.pdf" }],
    ["container", { container: "azure-webjobs-secrets" }],
    ["storage", { storage: "ftp" }],
    ["name", { name: "  " }],
    ["id", { id: "no-uuid" }],
    ["workspace", { workspace: "no-uuid" }],
    ["colour", { colour: "blue" }],
  ])("refuses a bad %s: %j", async (field, parts: Record<string, unknown>) => {
    const workspace = randomUUID();
    const path = parts["path"];
    const given = typeof path === "string" ? { path: path.replace("WORKSPACE", workspace) } : parts;
    const { status, body } = await call("POST", "/documents", registration(workspace, given));
    expect(status).toBe(400);
    expect(body["errors"]).toMatchObject([{ field }]);
  });

  test("refuses an id that has another file", async () => {
    const workspace = randomUUID();
    const { body } = await call("POST", "/documents", registration(workspace));
    const other = registration(workspace, { id: body["id"], path: `${workspace}/other.pdf` });
    expect(await call("POST", "/documents", other)).toMatchObject({
      status: 409,
      body: { code: "document_exists" },
    });
  });
});

describe("a document of another workspace", () => {
  test("does not exist, and the attempt is a security event", async () => {
    const { id } = await ready();
    const before = await world.row(id);
    const query = `workspace=${randomUUID()}`;
    for (const [method, path, body] of [
      ["GET", `/documents/${id}?${query}`],
      ["GET", `/documents/${id}/chunks?${query}`],
      ["POST", `/documents/${id}/process?${query}`],
      ["POST", `/documents/${id}/reprocess?${query}`, reason],
      ["POST", `/documents/${id}/cancel?${query}`, reason],
      ["DELETE", `/documents/${id}?${query}`],
    ] as const) {
      const answer = await call(method, path, body);
      expect(answer, path).toMatchObject({ status: 404, body: { code: "document_unknown" } });
      expect(events(answer.lines), path).toContain("document_workspace_mismatch");
    }
    expect(await world.row(id)).toEqual(before);
  });

  test("cannot be asked for without naming a workspace", async () => {
    const { id } = await ready();
    for (const path of ["/documents", `/documents/${id}`, `/documents/${id}/chunks`]) {
      const { status, body } = await call("GET", path);
      expect(status, path).toBe(400);
      expect(body["errors"]).toMatchObject([{ field: "workspace" }]);
    }
    const { status } = await call("POST", "/documents/search", { query: "contrato" });
    expect(status).toBe(400);
  });
});

describe("a ready document", () => {
  test("is listed, shown, and its chunks page by page", async () => {
    const { id, workspace } = await ready();
    const other = await world.add("Otro.", workspace);
    const first = await call(
      "GET",
      `/documents?workspace=${workspace}&limit=1`,
      undefined,
      "viewer",
    );
    expect(first.body["rows"]).toMatchObject([{ id: other.id, status: "PENDING" }]);
    const next = `/documents?workspace=${workspace}&limit=1&before=${first.body["next"]}`;
    expect((await call("GET", next)).body["rows"]).toMatchObject([{ id, status: "READY" }]);
    const filtered = await call("GET", `/documents?workspace=${workspace}&status=READY`);
    expect(filtered.body["rows"]).toMatchObject([{ id }]);
    const page = await call("GET", `/documents/${id}/chunks?workspace=${workspace}&limit=1`);
    expect(page.body).toMatchObject({ version: 1, rows: [{ ordinal: 0 }], next: 1 });
    const total = Number(page.body["total"]);
    const rest = await call(
      "GET",
      `/documents/${id}/chunks?workspace=${workspace}&from=1&limit=200`,
    );
    expect(rest.body["rows"]).toHaveLength(total - 1);
    expect(rest.body["next"]).toBeNull();
  });

  test("is found by its words", async () => {
    const { id, workspace } = await ready();
    const answer = await call(
      "POST",
      "/documents/search",
      { workspace, query: "el contrato" },
      "viewer",
    );
    expect(answer).toMatchObject({ status: 200, body: { model: "lex-hash-v1" } });
    expect(answer.body["hits"]).toMatchObject(
      (answer.body["hits"] as unknown[]).map(() => ({ documentId: id })),
    );
    expect(answer.body["hits"]).not.toEqual([]);
  });

  test("is processed again when somebody asks, and says why it was", async () => {
    const { id, workspace } = await ready();
    const answer = await call("POST", `/documents/${id}/reprocess?workspace=${workspace}`, reason);
    expect(answer).toMatchObject({ status: 202, body: { id, isNew: false } });
    expect(await world.row(id)).toMatchObject({
      state: "queued",
      is_forced: true,
      active_version: 1,
    });
    const [row] = await world.sql`
      select actor, reason from worker.audit_log
       where subject = ${`document:${id}`} and action = 'document_reprocess'`;
    expect(row).toEqual({ actor: "the-operator", reason: "a test wants it" });
  });

  test("has nothing to cancel", async () => {
    const { id, workspace } = await ready();
    const answer = await call("POST", `/documents/${id}/cancel?workspace=${workspace}`, reason);
    expect(answer).toMatchObject({ status: 409, body: { code: "document_not_running" } });
  });

  test("is gone when it is deleted, with its work item", async () => {
    const { id, workspace } = await ready();
    const path = `/documents/${id}?workspace=${workspace}`;
    expect(await call("DELETE", path)).toMatchObject({ status: 200, body: { outcome: "deleted" } });
    expect(await call("DELETE", path)).toMatchObject({ status: 200 });
    expect(await call("GET", path)).toMatchObject({ status: 410, body: { code: "document_gone" } });
    expect((await call("GET", `/documents?workspace=${workspace}`)).body["rows"]).toEqual([]);
    const { work_item: item } = await world.row(id);
    expect(queue.cancelled).toContain(item);
  });
});

describe("a document in work", () => {
  test("is cancelled with its work item; processing it anew has to wait for that", async () => {
    const { id, workspace, message } = await world.add("Un texto.");
    const run = documentRun();
    const holder = { ...message, itemId: run.itemId, fence: run.fence };
    await world.deps.documentWork.claim(holder, run.signal);
    const path = `/documents/${id}`;
    const query = `?workspace=${workspace}`;
    expect(await call("POST", `${path}/reprocess${query}`, reason)).toMatchObject({
      status: 409,
      body: { code: "document_processing" },
    });
    expect(await call("POST", `${path}/cancel${query}`, reason)).toMatchObject({ status: 200 });
    expect(queue.cancelled).toContain(run.itemId);
    expect((await call("GET", path + query)).body).toMatchObject({
      status: "FAILED",
      state: "cancelled",
    });
    expect(await call("POST", `${path}/process${query}`)).toMatchObject({ status: 202 });
  });
});

test("changes need an operator, and a reason where they undo something", async () => {
  const { id, workspace } = await ready();
  const query = `?workspace=${workspace}`;
  for (const [method, path, body] of [
    ["POST", "/documents", registration(workspace)],
    ["POST", `/documents/${id}/process${query}`, undefined],
    ["DELETE", `/documents/${id}${query}`, undefined],
  ] as const) {
    expect(await call(method, path, body, "viewer"), path).toMatchObject({ status: 403 });
  }
  for (const change of ["reprocess", "cancel"]) {
    const answer = await call("POST", `/documents/${id}/${change}${query}`, {});
    expect(answer.body["errors"]).toMatchObject([{ field: "reason" }]);
  }
});
