import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { type AuditHttpDeps, auditRoutes } from "../../src/lib/usage/audit.http.ts";
import {
  auditLedger,
  auditStarts,
  periodLedger,
} from "../../src/lib/usage/audit-ledger.supabase.ts";
import type { AuditMessage } from "../../src/lib/usage/audit-message.ts";
import { auditReads } from "../../src/lib/usage/audit-reads.supabase.ts";
import { type PeriodHttpDeps, periodRoutes } from "../../src/lib/usage/close-period.http.ts";
import { periodOf } from "../../src/lib/usage/usage-keys.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

/** Months are closed and audited over HTTP, on real Redis and real Postgres. */
let world: UsageWorld;
let api: ReturnType<typeof createRpc>;
let send: Send;
const queue: AuditMessage[] = [];
const time = { now: 0 };
beforeAll(async () => {
  world = await openUsageWorld();
  const { url, key } = await world.database.supabase();
  api = createRpc({ url, key });
  const deps: AuditHttpDeps & PeriodHttpDeps = {
    clock: { now: () => time.now },
    shardHeads: world.deps.shardHeads,
    periodLedger: periodLedger(api.rpc),
    auditStarts: auditStarts(api.rpc),
    auditReads: auditReads(api.rpc),
    auditQueue: { send: async (message) => void queue.push(message) },
    usageConfig: { periodGraceHours: 72 },
  };
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    auditRoutes(() => deps),
  );
  web.route(
    "/",
    periodRoutes(() => deps),
  );
  send = sendMounted(web);
});
afterAll(async () => {
  await api.close();
  await world.close();
});
beforeEach(async () => {
  queue.length = 0;
  await world.database.sql`delete from worker.usage_period_shards`;
  await world.database.sql`delete from worker.usage_periods`;
});

type Role = keyof typeof SECRETS;
const call = async (path: string, role: Role = "viewer", body?: unknown) => {
  const answer = await send(path, {
    method: body === undefined ? "GET" : "POST",
    headers: { "x-api-key": SECRETS[role], "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const isJson = answer.headers.get("content-type")?.includes("json");
  return { ...answer, body: isJson ? answer.json() : {} };
};

const PERIOD = periodOf(Date.now());
const MONTH = `${Math.floor(PERIOD / 100)}-${String(PERIOD % 100).padStart(2, "0")}`;
const END = Date.UTC(Math.floor(PERIOD / 100), PERIOD % 100, 1);
const HOUR_MS = 3_600_000;
const reason = "the invoices go out";

/** Compares everything, as the queue would. */
async function audited(): Promise<string> {
  const { body } = await call("/usage/audits", "operator", { period: MONTH });
  const id = String(body["auditId"]);
  await auditLedger(api.rpc).compare(id, { from: 0, to: 65_535 }, signal);
  await auditLedger(api.rpc).finish(id, null, signal);
  return id;
}

describe("POST /usage/periods/{period}/close", () => {
  const close = (body: object = { reason }, role: Role = "admin") =>
    call(`/usage/periods/${MONTH}/close`, role, body);

  test("refuses a month that is not over", async () => {
    time.now = END - 1;
    expect(await close()).toMatchObject({
      status: 409,
      body: { code: "usage_period_running", detail: expect.stringContaining("it ends at") },
    });
  });

  test("begins to close a month, says what holds it, and closes it when nothing does", async () => {
    const tenant = randomUUID();
    await world.record({ tenant, tokens: 12 });
    time.now = END + HOUR_MS;
    expect(await close()).toMatchObject({
      status: 202,
      body: { period: MONTH, state: "closing", heldBy: [{ reason: "grace" }] },
    });
    time.now = END + 73 * HOUR_MS;
    expect(await close()).toMatchObject({
      status: 202,
      body: { heldBy: [{ reason: "shards_behind", shards: 1 }] },
    });
    await world.reconcile();
    const closed = await close();
    expect(closed).toMatchObject({ status: 200, body: { period: MONTH, state: "closed" } });
    expect(await close({ reason: "again" })).toMatchObject({ status: 200, body: closed.body });

    const { body } = await call("/usage/periods");
    expect(body).toMatchObject({
      periods: [
        { period: MONTH, state: "closed", closedBy: "the-admin", reason, heldBy: [], despite: [] },
      ],
    });
    const [row] = body["periods"] as { checksum: string; shardsPassed: number }[];
    expect(row?.checksum).toMatch(/^[0-9a-f]{64}$/);
    expect(row?.shardsPassed).toBe(256);

    // What comes late is billed in the next month, and the closed one stays as it is.
    await world.record({ tenant, tokens: 8 });
    await world.reconcile();
    expect(await world.reads.total(tenant, PERIOD, signal)).toMatchObject({
      tokens: "12",
      used: "20",
    });
    expect(await world.tokensOf(tenant)).toBe("20");
    expect((await call("/usage/periods")).body).toEqual(body);
  });

  test("closes before the grace is over when a person says so", async () => {
    await world.reconcile();
    time.now = END;
    expect(await close({ reason, despite: ["grace"] })).toMatchObject({ status: 200 });
    expect((await call("/usage/periods")).body).toMatchObject({
      periods: [{ despite: ["grace"] }],
    });
  });

  test("starts the audit of the closed month, once", async () => {
    await world.reconcile();
    await world.database.sql`delete from worker.usage_audits`;
    time.now = END + 73 * HOUR_MS;
    await Promise.all([close(), close(), close()]);
    expect(new Set(queue.map(({ auditId }) => auditId)).size).toBe(1);
    expect((await call("/usage/audits")).body).toMatchObject({
      audits: [{ period: MONTH, trigger: "close", requestedBy: "the-admin" }],
    });
  });

  test.each([
    ["without a reason", {}, "reason"],
    ["with a blank reason", { reason: "   " }, "reason"],
    ["that overrules what nobody may", { reason, despite: ["shards_behind"] }, "despite[0]"],
    ["with a field nobody knows", { reason, force: true }, "force"],
  ])("%s is refused and names the field", async (_, body, field) => {
    const answer = await close(body);
    expect(answer).toMatchObject({ status: 400, body: { code: "request_invalid" } });
    expect(JSON.stringify(answer.body["errors"])).toContain(`"field":"${field}"`);
  });

  test("of a month that is none is refused", async () => {
    expect(await call("/usage/periods/2026-13/close", "admin", { reason })).toMatchObject({
      status: 400,
    });
  });

  test("needs an admin", async () => {
    expect(await close({ reason }, "operator")).toMatchObject({ status: 403 });
  });
});

describe("audits", () => {
  test("show sums, causes and findings, page by page", async () => {
    const tenants = Array.from({ length: 5 }, () => randomUUID()).sort();
    for (const tenant of tenants) await world.record({ tenant, tokens: 100 });
    await world.reconcile();
    await world.database.sql`
      update worker.usage_totals set tokens = tokens + 7 where tenant = any(${tenants})`;
    const id = await audited();

    const first = await call(`/usage/audits/${id}?limit=3&only=differences`);
    expect(first).toMatchObject({
      status: 200,
      body: {
        auditId: id,
        period: MONTH,
        status: "succeeded",
        differences: "5",
        causes: { total_edited_outside_ledger: { findings: 5, tokens: "35", largest: "7" } },
      },
    });
    const second = await call(
      `/usage/audits/${id}?limit=3&only=differences&after=${first.body["next"]}`,
    );
    expect(second.body["next"]).toBeNull();
    const findings = [first, second].flatMap(
      ({ body }) => body["findings"] as { tenant: string }[],
    );
    expect(findings.map(({ tenant }) => tenant).sort()).toEqual(tenants);
    expect(findings[0]).toMatchObject({ tokens: "7", relative: "0.065421", isDifference: true });

    const one = await call(`/usage/audits/${id}?tenant=${tenants[0]}`);
    expect(one.body["findings"]).toHaveLength(1);
    expect((await call(`/usage/audits/${id}?cause=unexplained`)).body["findings"]).toEqual([]);
    const listed = await call(`/usage/audits?period=${MONTH}&limit=1`);
    expect(listed.body).toMatchObject({ audits: [{ auditId: id }] });
    const [newest] = listed.body["audits"] as { startedAt: string }[];
    const before = encodeURIComponent(newest?.startedAt ?? "");
    const older = await call(`/usage/audits?before=${before}&limit=100`);
    expect(JSON.stringify(older.body)).not.toContain(id);
    await world.database.sql`
      update worker.usage_totals set tokens = tokens - 7 where tenant = any(${tenants})`;
  });

  test("are downloaded as CSV, which spreadsheets cannot be made to run", async () => {
    const tenant = '=cmd|"x",y';
    await world.record({ tenant, tokens: 100 });
    await world.reconcile();
    await world.database.sql`update worker.usage_totals set tokens = 90 where tenant = ${tenant}`;
    const id = await audited();
    const answer = await call(`/usage/audits/${id}.csv`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("text/csv; charset=utf-8");
    expect(answer.headers.get("content-disposition")).toContain(`usage-audit-${id}.csv`);
    const [head, row, ...rest] = answer.text.split("\r\n");
    expect(head).toBe("id,tenant,cause,kind,tokens,events,relative,evidence");
    expect(row).toMatch(
      /^\d+,"'=cmd\|""x"",y",total_edited_outside_ledger,difference,-10,0,0\.111111,"\{""used"".*\}"$/,
    );
    expect(rest.at(-1)).toBe("");

    await world.database.sql`
      insert into worker.usage_audit_findings (audit_id, period, tenant, cause, is_difference, tokens, events, evidence)
      values (${id}, ${PERIOD}, 'b', 'late_event', false, 1, 1, '{}')`;
    const page = await call(`/usage/audits/${id}.csv?limit=1`);
    const next = /<(.+)>; rel="next"/.exec(page.headers.get("link") ?? "")?.[1];
    const following = await call(next ?? "");
    expect(following.text).toContain(",late_event,information,");
    const only = await call(`/usage/audits/${id}.csv?only=differences`);
    expect(only.text).not.toContain("late_event");
    await world.database.sql`update worker.usage_totals set tokens = 100 where tenant = ${tenant}`;
  });

  test("start at a person's word, with who", async () => {
    const answer = await call("/usage/audits", "operator", { period: MONTH });
    expect(answer).toMatchObject({ status: 202, body: { status: "running" } });
    expect(queue).toMatchObject([
      { auditId: answer.body["auditId"], phase: "audit", prunes: false, part: 0 },
    ]);
    expect((await call(`/usage/audits/${answer.body["auditId"]}`)).body).toMatchObject({
      status: "running",
      percent: 0,
      differences: null,
      requestedBy: "the-operator",
    });
    expect(await call("/usage/audits", "viewer", { period: MONTH })).toMatchObject({ status: 403 });
  });

  test.each([
    ["/usage/audits/none", 400, "request_invalid"],
    ["/usage/audits/none.csv", 400, "request_invalid"],
    [`/usage/audits/${randomUUID()}`, 404, "usage_audit_unknown"],
    [`/usage/audits/${randomUUID()}.csv`, 404, "usage_audit_unknown"],
    [`/usage/audits/${randomUUID()}.csv?limit=10001`, 400, "request_invalid"],
    ["/usage/audits?before=yesterday", 400, "request_invalid"],
    ["/usage/audits?period=2026-00", 400, "request_invalid"],
    ["/usage/periods?limit=121", 400, "request_invalid"],
  ])("%s answers %i %s", async (path, status, code) => {
    expect(await call(path)).toMatchObject({ status, body: { code } });
  });

  test("are shown to viewers, not to producers", async () => {
    for (const path of ["/usage/audits", "/usage/periods", `/usage/audits/${randomUUID()}.csv`]) {
      expect(await call(path, "producer")).toMatchObject({ status: 403 });
    }
  });
});
