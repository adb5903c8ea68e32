import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { jobActionRoutes } from "../../src/lib/jobs/job-actions.http.ts";
import { jobControl, jobLedger } from "../../src/lib/jobs/job-ledger.supabase.ts";
import type { JobRunMessage } from "../../src/lib/jobs/job-ledger.ts";
import { jobReads } from "../../src/lib/jobs/job-reads.supabase.ts";
import type { CatalogJob } from "../../src/lib/jobs/job-view.ts";
import { jobRoutes } from "../../src/lib/jobs/jobs.http.ts";
import { auditLogRoutes } from "../../src/lib/ops/audit-log.http.ts";
import { auditLog } from "../../src/lib/ops/audit-log.supabase.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

const MINUTE_MS = 60_000;
const BASE = {
  description: "For tests.",
  timeZone: "UTC",
  dst: { overlap: "first", gap: "shift" },
  overlap: "skip",
  catchUp: "once",
  latestStartMs: 30 * MINUTE_MS,
  timeoutMs: MINUTE_MS,
  isCritical: false,
} as const;
const CATALOG: readonly CatalogJob[] = [
  {
    ...BASE,
    id: "nightly",
    name: { en: "Nightly", es: "Nocturno" },
    setting: "NIGHTLY_SCHEDULE",
    schedule: "30 2 * * *",
    timeZone: "Europe/Madrid",
  },
  {
    ...BASE,
    id: "minutely",
    name: { en: "Each minute", es: "Cada minuto" },
    setting: "MINUTELY_SCHEDULE",
    schedule: "* * * * *",
    isCritical: true,
  },
];

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let away: ReturnType<typeof createRpc>;
let send: Send;
let sendWithoutDatabase: Send;
const time = { now: Date.now() };
const queue = { sent: [] as JobRunMessage[], fails: false };

beforeAll(async () => {
  database = await openDatabase();
  api = createRpc(await database.supabase());
  away = createRpc({ url: "http://127.0.0.1:1", key: "k".repeat(20) });
  send = sendMounted(openApp(api));
  sendWithoutDatabase = sendMounted(openApp(away));
});
afterAll(async () => {
  await Promise.all([api.close(), away.close()]);
  await database.close();
});
beforeEach(async () => {
  await database.sql`truncate worker.jobs, worker.job_runs cascade`;
  Object.assign(queue, { sent: [], fails: false });
  time.now = Date.now();
});

function openApp({ rpc }: ReturnType<typeof createRpc>) {
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  const deps = {
    clock: { now: () => time.now },
    jobCatalog: CATALOG,
    jobReads: jobReads(rpc),
    jobControl: jobControl(rpc),
    jobLedger: jobLedger(rpc),
    jobQueue: {
      send: async (message: JobRunMessage) => {
        if (queue.fails) throw new Error("no queue");
        queue.sent.push(message);
      },
    },
    auditLog: auditLog(rpc),
  };
  for (const routes of [jobRoutes, jobActionRoutes, auditLogRoutes])
    web.route(
      "/",
      routes(() => deps),
    );
  return web;
}

type Role = keyof typeof SECRETS;
interface Sent {
  readonly role?: Role;
  readonly body?: unknown;
  readonly key?: string;
}
async function call(path: string, { role = "operator", body, key }: Sent = {}, through = send) {
  const answer = await through(path, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      "x-api-key": SECRETS[role],
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(key === undefined ? {} : { "idempotency-key": key }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, body: answer.json(), headers: answer.headers };
}
const WHY = { reason: "for the test" };

/** The registry as a tick of an instance brings it in, as long ago as a test needs. */
async function sync(minutesAgo = 0) {
  const facts = CATALOG.map(
    ({ id, schedule, timeZone, overlap, catchUp, latestStartMs, timeoutMs, isCritical }) => ({
      id,
      schedule,
      timeZone,
      overlap,
      catchUp,
      latestStartMs,
      timeoutMs,
      isCritical,
      attemptsMax: 1,
    }),
  );
  await jobLedger(api.rpc).sync(facts, true, new AbortController().signal);
  await database.sql`update worker.jobs set planned_from = planned_from - ${minutesAgo} * interval '1 minute'`;
}

interface Row {
  readonly minutesAgo: number;
  readonly status: string;
  readonly durationMs?: number;
  readonly more?: Record<string, unknown>;
}
/** A row of the ledger as the core writes it. */
async function row(
  jobId: string,
  { minutesAgo, status, durationMs = 1000, more = {} }: Row,
): Promise<string> {
  const due = new Date(Math.floor((Date.now() - minutesAgo * MINUTE_MS) / 1000) * 1000);
  const hasEnded = status !== "running" && status !== "queued";
  const columns = {
    job_id: jobId,
    slot_at: due,
    due_at: due,
    trigger: "schedule",
    status,
    started_at: due,
    lease_until: status === "running" ? new Date(Date.now() + MINUTE_MS) : null,
    finished_at: hasEnded ? due : null,
    duration_ms: hasEnded ? durationMs : null,
    ...more,
  };
  const [made] =
    await database.sql`insert into worker.job_runs ${database.sql(columns)} returning id`;
  await database.sql`update worker.jobs set last_slot_at = greatest(last_slot_at, ${due}) where id = ${jobId}`;
  return String(made?.["id"]);
}

describe("GET /cron/jobs", () => {
  test("lists every job of the registry, also before any instance told of it", async () => {
    const { status, body } = await call("/cron/jobs", { role: "viewer" });
    expect(status).toBe(200);
    expect(body["jobs"]).toMatchObject([
      {
        id: "nightly",
        name: { en: "Nightly", es: "Nocturno" },
        schedule: "30 2 * * *",
        setting: "NIGHTLY_SCHEDULE",
        timeZone: "Europe/Madrid",
        isEnabled: true,
        last: null,
        running: null,
        stats: { succeeded: 0, avgMs: null },
      },
      { id: "minutely", isCritical: true },
    ]);
  });

  test("shows state, next slots, the last run and counts of recent ones", async () => {
    await sync();
    time.now = Date.parse("2026-11-24T10:30:30Z");
    for (const [i, durationMs] of [100, 200, 300, 400].entries())
      await row("minutely", { minutesAgo: 10 - i, status: "succeeded", durationMs });
    await row("minutely", { minutesAgo: 3, status: "skipped" });
    const failed = { error_code: "redis_unavailable" };
    const last = await row("minutely", {
      minutesAgo: 2,
      status: "failed",
      durationMs: 1000,
      more: failed,
    });
    const runId = await row("minutely", { minutesAgo: 1, status: "running" });
    const { body } = await call("/cron/jobs/minutely");
    expect(body).toMatchObject({
      nextSlots: [
        "2026-11-24T10:31:00.000Z",
        "2026-11-24T10:32:00.000Z",
        "2026-11-24T10:33:00.000Z",
      ],
      running: { runId },
      last: { runId: last, status: "failed", errorCode: "redis_unavailable" },
      stats: {
        succeeded: 4,
        failed: 1,
        skipped: 1,
        avgMs: 400,
        minMs: 100,
        maxMs: 1000,
        p50Ms: 300,
        p95Ms: 1000,
      },
    });
    expect(body["lastTickAt"]).toMatch(/^\d{4}-/);
  });

  test("answers an unknown id with the list of ids, on every route", async () => {
    const runId = randomUUID();
    const paths = ["", "/runs", `/runs/${runId}`, "/upcoming", "/why"];
    const posts = ["/enable", "/disable", "/run", `/runs/${runId}/cancel`];
    const calls = [
      ...paths.map((path) => call(`/cron/jobs/none${path}`)),
      ...posts.map((path) => call(`/cron/jobs/none${path}`, { body: WHY })),
    ];
    for (const { status, body } of await Promise.all(calls)) {
      expect(status).toBe(404);
      expect(body).toMatchObject({ code: "job_unknown", detail: "known ids: nightly, minutely" });
    }
  });
});

describe("the roles", () => {
  const READS = ["/cron/jobs", "/cron/stats", "/cron/jobs/nightly/runs", "/cron/jobs/nightly/why"];
  const CHANGES = ["enable", "disable", "run", `runs/${randomUUID()}/cancel`];

  test("let viewers read, and producers not", async () => {
    for (const path of READS) {
      expect(await call(path, { role: "viewer" })).toMatchObject({ status: 200 });
      expect(await call(path, { role: "producer" })).toMatchObject({ status: 403 });
      expect((await send(path)).status).toBe(401);
    }
  });

  test("let operators change, and viewers not", async () => {
    for (const path of CHANGES) {
      const url = `/cron/jobs/nightly/${path}`;
      expect(await call(url, { role: "viewer", body: WHY })).toMatchObject({ status: 403 });
      const without = await call(url, { body: {} });
      expect(without).toMatchObject({ status: 400, body: { errors: [{ field: "reason" }] } });
    }
  });
});

describe("GET /cron/jobs/{id}/runs", () => {
  test("pages through the history without gap or repetition, newest first", async () => {
    await sync();
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1)
      ids.unshift(await row("minutely", { minutesAgo: 20 - n, status: "succeeded" }));
    const foreign = await row("nightly", { minutesAgo: 5, status: "succeeded" });
    const seen: string[] = [];
    for (let cursor = "", pages = 0; pages < 5; pages += 1) {
      const { body } = await call(`/cron/jobs/minutely/runs?limit=3${cursor}`);
      seen.push(...(body["rows"] as { runId: string }[]).map(({ runId }) => runId));
      if (body["next"] === null) break;
      cursor = `&cursor=${body["next"]}`;
    }
    expect(seen).toEqual(ids);
    const other = (await call("/cron/jobs/nightly/runs")).body;
    expect(other).toMatchObject({ rows: [{ runId: foreign, jobId: "nightly" }], next: null });
  });

  test("keeps to a status", async () => {
    await sync();
    await row("minutely", { minutesAgo: 2, status: "missed", more: { reason: "too_late" } });
    await row("minutely", { minutesAgo: 1, status: "succeeded" });
    const { body } = await call("/cron/jobs/minutely/runs?status=missed");
    expect(body).toMatchObject({ rows: [{ status: "missed", reason: "too_late" }], next: null });
  });

  const forged = (text: string) => `cursor=${Buffer.from(text).toString("base64url")}`;
  test.each([
    "limit=0",
    "limit=201",
    "limit=many",
    "status=gone",
    "cursor=x",
    forged("2026-13-45T00:00:00+00:00 00000000-0000-0000-0000-000000000000"),
    forged("' or 1=1"),
  ])("refuses ?%s and names the field", async (query) => {
    const { status, body } = await call(`/cron/jobs/minutely/runs?${query}`);
    expect(status).toBe(400);
    expect(body).toMatchObject({
      code: "request_invalid",
      errors: [{ field: query.split("=")[0] }],
    });
  });
});

describe("GET /cron/jobs/{id}/runs/{runId}", () => {
  test("tells everything about one run, and only of its own job", async () => {
    await sync();
    const more = { report: database.sql.json({ removed: 7 }), attempt: 2, failures: 1 };
    const runId = await row("minutely", { minutesAgo: 1, status: "succeeded", more });
    expect(await call(`/cron/jobs/minutely/runs/${runId}`)).toMatchObject({
      status: 200,
      body: { runId, jobId: "minutely", report: { removed: 7 }, attempt: 2, failures: 1 },
    });
    const foreign = await call(`/cron/jobs/nightly/runs/${runId}`);
    expect(foreign).toMatchObject({ status: 404, body: { code: "job_run_unknown" } });
    expect(await call("/cron/jobs/nightly/runs/1")).toMatchObject({ status: 400 });
  });
});

describe("enable and disable", () => {
  test("switch a job, say when it already was so, and are audited once each", async () => {
    const disabled = await call("/cron/jobs/nightly/disable", { body: { reason: "freeze" } });
    expect(disabled).toMatchObject({
      status: 200,
      body: {
        outcome: "disabled",
        isEnabled: false,
        disabledBy: "the-operator",
        disabledReason: "freeze",
      },
    });
    const again = await call("/cron/jobs/nightly/disable", { body: WHY, role: "admin" });
    expect(again.body).toMatchObject({ outcome: "already_disabled", disabledBy: "the-operator" });
    expect((await call("/cron/jobs")).body["jobs"]).toMatchObject([
      { isEnabled: false },
      { isEnabled: true },
    ]);
    const enabled = await call("/cron/jobs/nightly/enable", { body: WHY });
    expect(enabled.body).toMatchObject({ outcome: "enabled", isEnabled: true });
    expect((await call("/cron/jobs/nightly/enable", { body: WHY })).body).toMatchObject({
      outcome: "already_enabled",
    });
    expect((await call("/cron/jobs/nightly")).body).toMatchObject({ disabledBy: null });
    const { body } = await call("/audit-log?subject=job:nightly", { role: "admin" });
    expect(body["rows"]).toMatchObject([
      { action: "job_enable", actor: "the-operator", details: { before: false, after: true } },
      { action: "job_disable", reason: "freeze", requestId: expect.any(String) },
    ]);
  });

  test("take effect at the next claim of any instance", async () => {
    await sync();
    await call("/cron/jobs/minutely/disable", { body: WHY });
    const claim = await jobLedger(api.rpc).claimSlot(
      {
        jobId: "minutely",
        slotAt: Date.now() - 1000,
        trigger: "schedule",
        covered: [],
        missed: [],
        claimant: { instance: "other", leaseMs: 60_000, clientNow: Date.now() },
      },
      new AbortController().signal,
    );
    expect(claim).toMatchObject({ kind: "skipped", reason: "disabled" });
  });
});

describe("POST /cron/jobs/{id}/run", () => {
  test("answers 202 with the run and where to look, and wakes it", async () => {
    const { status, body, headers } = await call("/cron/jobs/nightly/run", { body: WHY });
    expect({ status, outcome: body["outcome"] }).toEqual({ status: 202, outcome: "started" });
    expect(headers.get("location")).toBe(`/cron/jobs/nightly/runs/${body["runId"]}`);
    expect(queue.sent).toEqual([{ v: 1, job: "nightly", run: body["runId"] }]);
    expect((await call(headers.get("location") ?? "")).body).toMatchObject({
      trigger: "manual",
      status: "queued",
      slotAt: null,
      requestedBy: "the-operator",
      requestedReason: "for the test",
    });
  });

  test("makes one run of a hundred calls with one key", async () => {
    const calls = Array.from({ length: 100 }, () =>
      call("/cron/jobs/nightly/run", { body: WHY, key: "deploy-42" }),
    );
    const answers = await Promise.all(calls);
    expect(new Set(answers.map(({ body }) => body["runId"])).size).toBe(1);
    expect(answers.filter(({ body }) => body["outcome"] === "started")).toHaveLength(1);
    expect(answers.every(({ status }) => status === 202)).toBe(true);
    expect(queue.sent).toHaveLength(1);
    const rows = await database.sql`select count(*)::int as n from worker.job_runs`;
    expect(rows).toMatchObject([{ n: 1 }]);
  });

  test("refuses a second run of a job that does not overlap, and names the first", async () => {
    const first = await call("/cron/jobs/nightly/run", { body: WHY });
    const second = await call("/cron/jobs/nightly/run", { body: WHY });
    expect(second).toMatchObject({ status: 409, body: { code: "job_busy" } });
    expect(second.body["detail"]).toContain(String(first.body["runId"]));
  });

  test("stands even when the message cannot be sent: the row is what counts", async () => {
    queue.fails = true;
    expect(await call("/cron/jobs/nightly/run", { body: WHY })).toMatchObject({ status: 202 });
  });

  test("refuses a key that is too long, and names the header", async () => {
    const answer = await call("/cron/jobs/nightly/run", { body: WHY, key: "k".repeat(201) });
    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: "idempotency-key" }] } });
  });
});

describe("POST /cron/jobs/{id}/runs/{runId}/cancel", () => {
  const cancel = (runId: unknown) =>
    call(`/cron/jobs/minutely/runs/${runId}/cancel`, { body: WHY });

  test("ends what waits, asks what works, and refuses what ended", async () => {
    await sync();
    const { body } = await call("/cron/jobs/minutely/run", { body: WHY });
    expect(await cancel(body["runId"])).toMatchObject({
      status: 200,
      body: { outcome: "cancelled", status: "cancelled" },
    });
    expect(await cancel(body["runId"])).toMatchObject({
      status: 409,
      body: { code: "job_run_ended" },
    });
    const running = await row("minutely", { minutesAgo: 1, status: "running" });
    expect((await cancel(running)).body).toMatchObject({ outcome: "requested", status: "running" });
    expect((await cancel(running)).body).toMatchObject({ outcome: "already_requested" });
    expect(await cancel(randomUUID())).toMatchObject({
      status: 404,
      body: { code: "job_run_unknown" },
    });
  });
});

describe("GET /cron/jobs/{id}/upcoming", () => {
  test("marks the day on which clocks change, and what becomes of a slot in the gap", async () => {
    time.now = Date.parse("2027-03-26T12:00:00Z"); // Madrid leaves out 02:00 to 03:00 on the 28th
    const { body } = await call("/cron/jobs/nightly/upcoming?count=3");
    expect(body).toEqual({
      timeZone: "Europe/Madrid",
      slots: [
        {
          at: "2027-03-27T01:30:00.000Z",
          localTime: "2027-03-27T02:30:00+01:00",
          isClockChangeDay: false,
          clockChange: null,
        },
        {
          at: "2027-03-28T01:30:00.000Z",
          localTime: "2027-03-28T03:30:00+02:00",
          isClockChangeDay: true,
          clockChange: "shifted",
        },
        {
          at: "2027-03-29T00:30:00.000Z",
          localTime: "2027-03-29T02:30:00+02:00",
          isClockChangeDay: false,
          clockChange: null,
        },
      ],
    });
  });

  test.each(["count=0", "count=101", "count=x"])("refuses ?%s", async (query) => {
    expect(await call(`/cron/jobs/nightly/upcoming?${query}`)).toMatchObject({
      status: 400,
      body: { errors: [{ field: "count" }] },
    });
  });
});

describe("GET /cron/jobs/{id}/why", () => {
  const why = async (id = "nightly") => (await call(`/cron/jobs/${id}/why`)).body;

  test("answers from the ledger and the calendar", async () => {
    expect(await why()).toMatchObject({ jobId: "nightly", reason: "no_instance" });
    await sync();
    expect(await why()).toMatchObject({
      reason: "not_due",
      at: expect.stringMatching(/:30:00\.000Z$/),
    });
    await call("/cron/jobs/nightly/disable", { body: { reason: "freeze" } });
    expect(await why()).toMatchObject({
      reason: "disabled",
      text: "the-operator disabled it: freeze.",
    });
    await sync(10);
    expect(await why("minutely")).toMatchObject({ reason: "no_instance" });
    const failed = { reason: "work_failed", error_code: "redis_unavailable" };
    await row("minutely", { minutesAgo: 0, status: "failed", more: failed });
    expect(await why("minutely")).toMatchObject({
      reason: "last_failed",
      text: "Its last run ended with redis_unavailable.",
    });
    const runId = await row("minutely", { minutesAgo: 0.05, status: "running" });
    expect((await why("minutely"))["runId"]).toBe(runId);
  });

  test("answers also when the database does not", async () => {
    const answer = await call("/cron/jobs/nightly/why", {}, sendWithoutDatabase);
    expect(answer).toMatchObject({ status: 200, body: { reason: "database_unavailable" } });
    expect(await call("/cron/jobs", {}, sendWithoutDatabase)).toMatchObject({ status: 503 });
  });
});

describe("GET /cron/stats", () => {
  test("counts runs, errors, rates and durations of the window", async () => {
    await sync();
    for (const [i, durationMs] of [100, 200, 300].entries())
      await row("minutely", { minutesAgo: 10 + i, status: "succeeded", durationMs });
    await row("minutely", { minutesAgo: 5, status: "abandoned", durationMs: 5000 });
    await row("minutely", { minutesAgo: 4, status: "missed" });
    await row("minutely", { minutesAgo: 100, status: "failed" });
    const { body } = await call("/cron/stats?hours=1");
    expect(body).toMatchObject({
      total: { runs: 4, errors: 1, errorRate: 0.25, missed: 1 },
      jobs: [
        {
          id: "minutely",
          runs: 4,
          abandoned: 1,
          errorRate: 0.25,
          p50Ms: 200,
          p95Ms: 5000,
          isCapped: false,
        },
        { id: "nightly", runs: 0, errorRate: null, p50Ms: null },
      ],
    });
    expect((await call("/cron/stats")).body).toMatchObject({ total: { runs: 5, errors: 2 } });
  });

  test.each(["hours=0", "hours=169"])("refuses ?%s", async (query) => {
    expect(await call(`/cron/stats?${query}`)).toMatchObject({ status: 400 });
  });
});
