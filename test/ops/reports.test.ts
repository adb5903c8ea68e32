import type { AddressInfo } from "node:net";
import { SaxesParser } from "saxes";
import { SMTPServer } from "smtp-server";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Run } from "../../src/lib/kernel/run.ts";
import { reportRoutes } from "../../src/lib/ops/reports.http.ts";
import { reportFacts, reportReads, reportStore } from "../../src/lib/ops/reports.supabase.ts";
import { makeReport, type ReportDeps } from "../../src/lib/ops/reports.ts";
import type { ReportData } from "../../src/lib/ops/reports-data.ts";
import { reportPage } from "../../src/lib/ops/reports-page.ts";
import { createSmtpMailer } from "../../src/lib/ops/smtp-mailer.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

const DAY = "2026-11-23";
const NOW = Date.parse("2026-11-24T06:00:00Z");

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let send: Send;
beforeAll(async () => {
  database = await openDatabase();
  const { url, key } = await database.supabase();
  api = createRpc({ url, key });
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  web.route(
    "/",
    reportRoutes(() => ({ reportReads: reportReads(api.rpc) })),
  );
  send = sendMounted(web);
  await fillDay();
});
afterAll(async () => {
  await api.close();
  await database.close();
});
beforeEach(() => database.sql`truncate worker.reports`);

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** A day with a bit of everything, among rows of other days. */
async function fillDay(): Promise<void> {
  const { sql } = database;
  await sql`
    insert into worker.jobs (id, schedule, time_zone, overlap, catch_up, latest_start_ms, timeout_ms, attempts_max,
      is_critical, planned_from)
    select id, '* * * * *', 'UTC', 'skip', 'skip', 1000, 1000, 1, true, '2026-11-01'
      from unnest(array['health_check', 'cleanup']) as id`;
  // One check a minute from 22:00 the day before on; the database was away from 03:00 to 03:29.
  await sql`
    insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, attempt, started_at, finished_at, duration_ms,
      late_ms, report)
    select 'health_check', at, at, 'schedule', 'succeeded', 1, at, at, 100 + i, 5,
           jsonb_build_object('health', jsonb_build_object('cache', 'available', 'scheduler', 'degraded', 'database',
             case when at >= '2026-11-23 03:00Z' and at < '2026-11-23 03:30Z' then 'unavailable' else 'available' end))
      from generate_series(0, 600) as i, lateral (select '2026-11-22 22:00Z'::timestamptz + i * interval '1 minute' as at)`;
  await sql`
    insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, attempt, started_at, finished_at, error_code)
    select 'cleanup', at, at, 'schedule', 'failed', 1, at, at, 'database_unavailable'
      from generate_series('2026-11-23 00:00Z'::timestamptz, '2026-11-23 02:00Z', '1 hour') as at`;
  await sql`
    insert into worker.usage_ledger (tenant, period, usage_period, token_type, model, tokens, events, reason, booked_at)
    values ('<b>acme</b>', 202611, 202611, 'llm', 'm', 9007199254740993, 7, 'usage', '2026-11-23 02:10Z'),
           ('beta', 202611, 202611, 'embedding', 'm', 1000, 1, 'late', '2026-11-23 23:59:59Z'),
           ('gamma', 202611, 202611, 'llm', 'm', 5, 1, 'usage', '2026-11-24 00:00Z')`;
  await sql`
    insert into worker.alerts (key, kind, level, state, title, runbook, first_seen, last_seen, noticed_at, noticed_level,
      resolved_at)
    values ('late:1', 'late', 'critical', 'resolved', 'Uses are <late>', 'r', '2026-11-22 10:00Z', '2026-11-23 10:00Z',
            '2026-11-22 10:00Z', 'critical', '2026-11-23 10:00Z'),
           ('late:2', 'late', 'warning', 'firing', 'Later', 'r', '2026-11-23 11:00Z', '2026-11-23 11:00Z',
            '2026-11-23 11:00Z', 'warning', null),
           ('late:3', 'late', 'warning', 'firing', 'Tomorrow', 'r', '2026-11-24 00:00Z', '2026-11-24 00:00Z',
            '2026-11-24 00:00Z', 'warning', null)`;
}

const log = { info: () => {}, warn: () => {}, error: () => {} };
const run: Run = {
  name: "dailyReports",
  id: "1",
  log,
  signal: new AbortController().signal,
  note: () => {},
};

const depsWith = (parts: Partial<ReportDeps> = {}): ReportDeps => ({
  clock: { now: () => NOW },
  serviceName: "worker-service",
  environment: "test",
  reportFacts: reportFacts(api.rpc),
  reportStore: reportStore(api.rpc),
  reportMail: undefined,
  ...parts,
});

async function read(): Promise<ReportData> {
  const data = await reportReads(api.rpc).data(DAY, run.signal);
  if (data === undefined) throw new Error("no report");
  return data;
}

/** Reads a page as XML, which is stricter than any browser, and gives its text. */
function parse(page: string): { readonly text: string; readonly elements: readonly string[] } {
  const parser = new SaxesParser();
  const elements: string[] = [];
  const texts: string[] = [];
  parser.on("error", (error) => {
    throw error;
  });
  parser.on("opentag", ({ name }) => void elements.push(name));
  parser.on("text", (text) => void texts.push(text));
  parser.write(page.replace("<!doctype html>", "").trim()).close();
  return { text: texts.join(" "), elements };
}

describe("the report of a day", () => {
  test("counts what happened on it, and nothing of the days around it", async () => {
    expect(await makeReport(depsWith(), run)).toEqual({ day: DAY, missing: [], mail: "off" });
    const { jobs, health, usage, alerts, work } = await read();
    expect(jobs).toMatchObject([
      { id: "cleanup", slots: 3, failed: 3, errors: { database_unavailable: 3 } },
      { id: "health_check", slots: 481, succeeded: 481, lateMaxMs: 5 },
    ]);
    expect(health).toMatchObject({
      checks: 481,
      available: 451,
      components: {
        database: { available: 451, unavailable: 30 },
        scheduler: { degraded: 481 },
      },
    });
    expect(health?.hours[3]).toEqual({ hour: 3, checks: 60, available: 30 });
    expect(usage).toMatchObject({
      tokens: "9007199254741993",
      events: "8",
      hours: [
        { hour: 2, tokens: "9007199254740993" },
        { hour: 23, tokens: "1000" },
      ],
      tenants: [{ tenant: "<b>acme</b>" }, { tenant: "beta" }],
    });
    expect(alerts).toMatchObject({ raised: 1, resolved: 1, open: 1 });
    expect(alerts?.rows.map(({ key }) => key)).toEqual(["late:1", "late:2"]);
    expect(work).toMatchObject({ ended: [], now: { unaccounted: "0" } });
  });

  test("made again replaces the one before", async () => {
    await makeReport(depsWith(), run);
    const later = { ...depsWith(), clock: { now: () => NOW + 60_000 } };
    await makeReport(later, run);
    const rows = await database.sql`select day::text, made from worker.reports`;
    expect(rows).toEqual([{ day: DAY, made: 2 }]);
    expect((await read()).madeAt).toBe("2026-11-24T06:01:00.000Z");
  });

  test("is made without a part that cannot be read, and names it", async () => {
    const facts = reportFacts(api.rpc);
    const broken = { ...facts, usage: () => Promise.reject(new Error("too slow")) };
    expect(await makeReport(depsWith({ reportFacts: broken }), run)).toMatchObject({
      missing: ["usage"],
    });
    const { usage, jobs } = await read();
    expect(usage).toBeNull();
    expect(jobs).toHaveLength(2);
    const page = (await reportReads(api.rpc).html(DAY, run.signal)) ?? "";
    expect(parse(page).text).toContain("Could not be read · No se pudo leer: usage");
  });
});

describe("the page of a report", () => {
  test("is well-formed, needs nothing from elsewhere, and shows names as text", async () => {
    await makeReport(depsWith(), run);
    const page = (await reportReads(api.rpc).html(DAY, run.signal)) ?? "";
    const { text, elements } = parse(page);
    expect(elements.filter((name) => name === "svg")).toHaveLength(2);
    expect(elements).not.toContain("b-acme");
    expect(text).toContain("<b>acme</b>");
    expect(text).toContain("Uses are <late>");
    expect(page).not.toMatch(/<script|<img|<link|src=|href=|https?:|@import|url\(/);
    expect(page).toContain("prefers-color-scheme:dark");
    expect(page).toContain("width=device-width");
    expect(Buffer.byteLength(page)).toBeLessThan(100_000);
  });

  test("of a day without anything is a page too", () => {
    const empty: ReportData = {
      version: 1,
      day: DAY,
      madeAt: "2026-11-24T06:00:00.000Z",
      serviceName: "worker-service",
      environment: "test",
      missing: [],
      jobs: [],
      health: { checks: 0, available: 0, components: {}, hours: [] },
      usage: null,
      work: { ended: [], codes: [], now: {} },
      alerts: { raised: 0, resolved: 0, open: 0, rows: [] },
    };
    expect(parse(reportPage(empty)).text).toContain("Salud del sistema");
  });

  test("shows control characters and quotes without breaking", async () => {
    const data: ReportData = { ...(await emptyOf()), jobs: null };
    const tenant = `"'><\u0000\u001b]]>&amp;`;
    const usage = { ...BARE_USAGE, tenants: [{ tenant, tokens: "1" }] };
    expect(parse(reportPage({ ...data, usage })).text).toContain(`"'><\uFFFD\uFFFD]]>&amp;`);
  });
});

const BARE_USAGE = {
  tokens: "0",
  events: "0",
  hours: [],
  reasons: [],
  types: [],
  drifts: [],
  quarantined: 0,
  gaps: "0",
};
async function emptyOf(): Promise<ReportData> {
  await makeReport(depsWith(), run);
  return read();
}

describe("the mail of a report", () => {
  async function openMail(mails: string[]) {
    const server = new SMTPServer({
      authOptional: true,
      disabledCommands: ["STARTTLS"],
      onData: (stream, _session, done) => {
        let text = "";
        stream.on("data", (chunk: Buffer) => {
          text += chunk;
        });
        stream.on("end", () => {
          mails.push(text);
          done();
        });
      },
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => server.close());
    const { port } = server.server.address() as AddressInfo;
    const mailer = createSmtpMailer({
      url: `smtp://127.0.0.1:${port}`,
      from: "worker@example.com",
    });
    return { mailer, to: ["boss@example.com"] };
  }

  test("leaves once, however often the report is made, also at once", async () => {
    const mails: string[] = [];
    const reportMail = await openMail(mails);
    const made = await Promise.all([1, 2, 3].map(() => makeReport(depsWith({ reportMail }), run)));
    expect(made.map(({ mail }) => mail).sort()).toEqual(["before", "before", "sent"]);
    expect(await makeReport(depsWith({ reportMail }), run)).toMatchObject({ mail: "before" });
    expect(mails).toHaveLength(1);
    expect(mails[0]).toContain(`Message-ID: <report-${DAY}@worker-service.test>`);
  });

  test("that is known not to have left is tried again with the next report", async () => {
    const mailer = createSmtpMailer({ url: "smtp://127.0.0.1:1", from: "worker@example.com" });
    const down = { mailer, to: ["boss@example.com"] };
    expect(await makeReport(depsWith({ reportMail: down }), run)).toMatchObject({ mail: "failed" });
    const mails: string[] = [];
    const reportMail = await openMail(mails);
    expect(await makeReport(depsWith({ reportMail }), run)).toMatchObject({ mail: "sent" });
    expect(mails).toHaveLength(1);
  });

  test("whose outcome nobody knows is not sent again", async () => {
    const lost = {
      mailer: { send: () => Promise.reject(new Error("lost")) },
      to: ["a@example.com"],
    };
    expect(await makeReport(depsWith({ reportMail: lost }), run)).toMatchObject({
      mail: "unknown",
    });
    expect(await makeReport(depsWith({ reportMail: lost }), run)).toMatchObject({ mail: "before" });
  });
});

describe("GET /reports", () => {
  const get = (path: string, accept?: string) =>
    send(path, {
      headers: { "x-api-key": SECRETS.viewer, ...(accept === undefined ? {} : { accept }) },
    });

  test("lists days, newest first, page by page", async () => {
    for (const day of ["2026-11-20", "2026-11-21", "2026-11-22"])
      await makeReport(depsWith(), run, day);
    const first = (await get("/reports?limit=2")).json();
    expect(first).toMatchObject({ rows: [{ day: "2026-11-22", made: 1 }, { day: "2026-11-21" }] });
    const second = (await get(`/reports?limit=2&before=${first["next"]}`)).json();
    expect(second).toMatchObject({ rows: [{ day: "2026-11-20" }], next: null });
  });

  test("answers with data, or with the page when a browser asks", async () => {
    await makeReport(depsWith(), run);
    expect((await get(`/reports/${DAY}`)).json()).toMatchObject({ day: DAY, version: 1 });
    const page = await get(`/reports/${DAY}`, "text/html,application/xhtml+xml,*/*;q=0.8");
    expect(page.headers.get("content-type")).toContain("text/html");
    expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(page.text).toContain("Informe diario");
  });

  test("names a day that has no report, and refuses what is no day", async () => {
    expect((await get("/reports/2020-01-01")).json()).toMatchObject({ code: "report_unknown" });
    expect((await get("/reports/2020-01-01", "text/html")).status).toBe(404);
    expect((await get("/reports/yesterday")).status).toBe(400);
    expect((await send("/reports")).status).toBe(401);
  });
});
