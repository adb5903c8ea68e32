import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { z } from "zod";
import type { JobSpec } from "../../src/lib/jobs/job.ts";
import { jobApiServices } from "../../src/lib/jobs/job-api-services.supabase.ts";
import { jobLedger } from "../../src/lib/jobs/job-ledger.supabase.ts";
import { type StatusSchema, statusRoutes } from "../../src/lib/ops/status.http.ts";
import {
  type JobRuns,
  type JobStatus,
  type StatusDeps,
  statusReader,
} from "../../src/lib/ops/status.ts";
import { formatUptime, healthOf } from "../../src/lib/ops/status-body.ts";
import { fleet } from "../../src/lib/ops/status-fleet.supabase.ts";
import { systemReader } from "../../src/lib/ops/status-system.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, sendMounted } from "../support/http-shell.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

type Status = z.output<typeof StatusSchema>;
const NOW = Date.parse("2026-11-24T10:30:46.123Z");
const MINUTE_MS = 60_000;
const ANSWER_MS_MAX = 300;
const ATTEMPTS_MAX = 20;

/** The example of the requirements, word for word, without its comments. */
const EXAMPLE = {
  status: "available",
  components: { cache: "available", database: "available", scheduler: "available" },
  metrics: {
    service_type: "worker",
    uptime_seconds: 86420,
    uptime_formatted: "1d 0h 0m",
    scheduler_status: { running: true, timezone: "UTC" },
    jobs_analysis: {
      total_jobs: 3,
      active_jobs: 3,
      paused_jobs: 0,
      critical_jobs: 2,
      jobs_with_errors: 0,
      avg_execution_times: {
        sync_accounts: 1.25,
        cleanup_temporary_files: 0.35,
        reconcile_database: 5.67,
      },
      error_rates: {},
      job_health: {
        sync_accounts: {
          status: "healthy",
          is_active: true,
          is_critical: true,
          error_count: 0,
          success_count: 24,
          last_execution: { timestamp: "2023-06-15T10:20:45.123456Z", time_ago_seconds: 600 },
          next_execution: "2023-06-15T10:50:45.123456Z",
        },
      },
    },
    scheduled_jobs: [
      {
        id: "sync_accounts",
        name: "Sincronización de cuentas",
        next_run_time: "2023-06-15T10:50:45.123456Z",
        trigger: "interval[0:30:00]",
        misfire_grace_time: 300,
        max_instances: 1,
        executor: "default",
        avg_execution_time: 1.25,
        min_execution_time: 0.98,
        max_execution_time: 1.87,
        error_count: 0,
        success_count: 24,
      },
    ],
    system_resources: {
      cpu: { percent: 23.5, count: 8 },
      memory: { total_gb: 16.0, used_gb: 8.2, percent: 51.25 },
      disk: { total_gb: 500.0, used_gb: 250.0, percent: 50.0 },
      network: {
        bytes_sent_mb: 128.5,
        bytes_recv_mb: 345.2,
        packets_sent: 10240,
        packets_recv: 25600,
      },
      process: { memory_mb: 156.8, cpu_percent: 2.3, threads: 8, open_files: 12 },
    },
  },
  timestamp: "2023-06-15T10:30:46.123456Z",
  service: "worker-service",
};
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

/** Every key of the example is there, with a value of the same type; an instant is written in the same way. */
function compare(example: unknown, answer: unknown, path = "$"): string[] {
  if (typeof example === "string" && INSTANT.test(example))
    return INSTANT.test(String(answer)) ? [] : [`${path}: not an instant: ${answer}`];
  if (Array.isArray(example))
    return Array.isArray(answer)
      ? compare(example[0], answer[0], `${path}[0]`)
      : [`${path}: no list`];
  if (typeof example !== "object" || example === null)
    return typeof answer === typeof example
      ? []
      : [`${path}: ${typeof answer}, not ${typeof example}`];
  if (typeof answer !== "object" || answer === null) return [`${path}: missing`];
  return Object.entries(example).flatMap(([key, value]) =>
    compare(value, (answer as Record<string, unknown>)[key], `${path}.${key}`),
  );
}

const RUNS: JobRuns = {
  isActive: true,
  succeeded: 24,
  failed: 0,
  avgMs: 1250,
  minMs: 980,
  maxMs: 1870,
  last: { at: NOW - 10 * MINUTE_MS, status: "succeeded" },
};
const job = (
  id: string,
  runs: JobRuns | undefined,
  changes: Partial<JobStatus> = {},
): JobStatus => ({
  id,
  name: `Trabajo ${id}`,
  schedule: "*/30 * * * *",
  isCritical: true,
  latestStartMs: 300_000,
  runsMax: 1,
  nextAt: NOW + 20 * MINUTE_MS,
  runs,
  ...changes,
});
const JOBS = [
  job("sync_accounts", RUNS),
  job("cleanup_temporary_files", { ...RUNS, avgMs: 350 }, { isCritical: false }),
  job("reconcile_database", { ...RUNS, avgMs: 5670 }),
];

const never = () => new Promise<never>(() => {});
const available = { cache: "available", database: "available", scheduler: "available" } as const;
const FINE = {
  clock: { now: () => NOW },
  health: { read: async () => ({ ...available, checkedAt: NOW }) },
  fleet: {
    read: async () => ({
      now: NOW,
      upSince: NOW - 86_420_000,
      instances: [{ id: "a", startedAt: NOW - 1000, seenAt: NOW, memoryMb: 100 }],
    }),
  },
  systemReader: systemReader(tmpdir()),
  jobStatuses: {
    planned: () => JOBS.map((it) => ({ ...it, runs: undefined })),
    read: async () => JOBS,
  },
} satisfies StatusDeps;

function openStatus(changes: Partial<StatusDeps> = {}) {
  const web = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  const deps = { status: statusReader({ ...FINE, ...changes }), serviceName: "worker-service" };
  web.route(
    "/",
    statusRoutes(() => deps),
  );
  const send = sendMounted(web);
  return async (role: keyof typeof SECRETS = "viewer") => {
    const startedAt = performance.now();
    const answer = await send("/status", { headers: { "x-api-key": SECRETS[role] } });
    const ms = performance.now() - startedAt;
    return { status: answer.status, ms, body: answer.json() as unknown as Status };
  };
}

/** The best of a few answers: what the code does, and not what else the machine does. */
async function best(changes: Partial<StatusDeps>, degradedMax: number) {
  let answer = await openStatus(changes)();
  const isGood = () =>
    answer.ms < ANSWER_MS_MAX && answer.body.degraded_sections.length <= degradedMax;
  for (let n = 1; n < ATTEMPTS_MAX && !isGood(); n += 1) answer = await openStatus(changes)();
  return answer;
}

describe("GET /status", () => {
  test("has every field of the requirements, with its type", async () => {
    const { status, body } = await openStatus()();
    expect(status).toBe(200);
    expect(compare(EXAMPLE, body)).toEqual([]);
    const { system_resources: _, ...metrics } = body.metrics;
    const { system_resources: _r, ...expected } = EXAMPLE.metrics;
    expect(metrics).toMatchObject({
      ...expected,
      scheduled_jobs: [
        {
          id: "sync_accounts",
          name: "Trabajo sync_accounts",
          next_run_time: "2026-11-24T10:50:46.123000Z",
          trigger: "cron[*/30 * * * *]",
          misfire_grace_time: 300,
        },
        {},
        {},
      ],
      jobs_analysis: {
        ...expected.jobs_analysis,
        job_health: {
          sync_accounts: {
            success_count: 24,
            last_execution: { timestamp: "2026-11-24T10:20:46.123000Z", time_ago_seconds: 600 },
            next_execution: "2026-11-24T10:50:46.123000Z",
          },
        },
      },
    });
    expect(body.degraded_sections).toEqual([]);
  });

  test("finds out when a field of the requirements is missing or of another type", () => {
    expect(compare(EXAMPLE, EXAMPLE)).toEqual([]);
    const metrics = { ...EXAMPLE.metrics, uptime_seconds: "1", scheduled_jobs: [{}] };
    const broken = { ...EXAMPLE, metrics };
    expect(compare(EXAMPLE, broken).length).toBe(13);
  });

  test("counts what fails, what is paused, and rates", async () => {
    const jobs = [
      job("good", RUNS),
      job("worse", { ...RUNS, succeeded: 3, failed: 1 }),
      job("off", { ...RUNS, isActive: false }),
      job("new", { ...RUNS, succeeded: 0, avgMs: null, minMs: null, maxMs: null, last: null }),
    ];
    const { body } = await openStatus({
      jobStatuses: { planned: () => jobs, read: async () => jobs },
    })();
    expect(body.metrics.jobs_analysis).toMatchObject({
      total_jobs: 4,
      active_jobs: 3,
      paused_jobs: 1,
      jobs_with_errors: 1,
      error_rates: { worse: 0.25 },
      job_health: {
        off: { is_active: false },
        new: { last_execution: null, success_count: 0 },
        worse: { error_count: 1, status: "degraded" },
      },
    });
    expect(Object.keys(body.metrics.jobs_analysis.avg_execution_times)).toEqual([
      "good",
      "worse",
      "off",
    ]);
    expect(body.metrics.scheduled_jobs[2]).toMatchObject({ id: "off", next_run_time: null });
  });

  test("needs a viewer", async () => {
    expect(await openStatus()("producer")).toMatchObject({ status: 403 });
  });

  test("is read at most once in two seconds, whoever asks", async () => {
    let reads = 0;
    let now = NOW;
    const ask = openStatus({
      clock: { now: () => now },
      jobStatuses: {
        planned: () => [],
        read: async () => {
          reads += 1;
          return JOBS;
        },
      },
    });
    await Promise.all(Array.from({ length: 10 }, () => ask()));
    now += 1999;
    await ask();
    expect(reads).toBe(1);
    now += 1;
    await ask();
    expect(reads).toBe(2);
  });
});

const BROKEN: readonly [string, Partial<StatusDeps>][] = [
  ["components", { health: { read: never } }],
  ["fleet", { fleet: { read: never } }],
  ["jobs", { jobStatuses: { ...FINE.jobStatuses, read: never } }],
  ["cpu", { systemReader: { ...FINE.systemReader, cpu: never } }],
  ["memory", { systemReader: { ...FINE.systemReader, memory: never } }],
  ["disk", { systemReader: { ...FINE.systemReader, disk: never } }],
  ["network", { systemReader: { ...FINE.systemReader, network: never } }],
  [
    "process",
    { systemReader: { ...FINE.systemReader, process: () => Promise.reject(new Error("no")) } },
  ],
];

describe("a section that does not answer", () => {
  test.each(BROKEN)("%s is named, and the rest is there within 300 ms", async (name, changes) => {
    const { status, ms, body } = await best(changes, 1);
    expect(status).toBe(200);
    expect(ms).toBeLessThan(ANSWER_MS_MAX);
    expect(body.degraded_sections).toEqual([name]);
    expect(body.metrics.scheduled_jobs).toHaveLength(3);
  });

  test("leaves all others when everything hangs at once", async () => {
    const all = Object.assign({}, ...BROKEN.map(([, changes]) => changes));
    const hangs = { cpu: never, memory: never, disk: never, network: never, process: never };
    const { status, ms, body } = await best({ ...all, systemReader: hangs }, 8);
    expect({ status, degraded: body.degraded_sections.length }).toEqual({
      status: 200,
      degraded: 8,
    });
    expect(ms).toBeLessThan(ANSWER_MS_MAX);
    expect(body).toMatchObject({
      status: "degraded",
      metrics: {
        uptime_seconds: 0,
        instances: null,
        jobs_analysis: {
          total_jobs: 3,
          job_health: { sync_accounts: { status: "unknown", error_count: null } },
        },
        system_resources: { cpu: null, memory: null, disk: null, network: null, process: null },
      },
    });
  });

  test("shows what was last known, and says so", async () => {
    let now = NOW;
    let isAway = false;
    const ask = openStatus({
      clock: { now: () => now },
      jobStatuses: { ...FINE.jobStatuses, read: () => (isAway ? never() : Promise.resolve(JOBS)) },
    });
    await ask();
    isAway = true;
    now += 5000;
    const { body } = await ask();
    expect(body.degraded_sections).toEqual(["jobs"]);
    expect(body.metrics.jobs_analysis.job_health["sync_accounts"]).toMatchObject({
      success_count: 24,
    });
  });
});

test.each([
  [0, "0d 0h 0m"],
  [59, "0d 0h 0m"],
  [86_420, "1d 0h 0m"],
  [200_000, "2d 7h 33m"],
])("%i s of uptime are %s", (seconds, text) => {
  expect(formatUptime(seconds)).toBe(text);
});

test.each([
  ["unknown", undefined, true],
  ["healthy", RUNS, true],
  ["unhealthy", { ...RUNS, last: { at: NOW, status: "failed" } }, true],
  ["unhealthy", { ...RUNS, last: { at: NOW, status: "missed" } }, true],
  ["degraded", { ...RUNS, last: { at: NOW, status: "abandoned" } }, false],
  ["degraded", { ...RUNS, succeeded: 8, failed: 1 }, true],
  ["healthy", { ...RUNS, succeeded: 9, failed: 1 }, true],
  ["healthy", { ...RUNS, last: { at: NOW, status: "cancelled" } }, true],
] as const)("a job is %s", (health, runs, isCritical) => {
  expect(healthOf(job("x", runs, { isCritical }))).toBe(health);
});

describe("on a real database", () => {
  let database: TestDatabase;
  let api: ReturnType<typeof createRpc>;
  beforeAll(async () => {
    database = await openDatabase();
    api = createRpc(await database.supabase());
  });
  afterAll(async () => {
    await api.close();
    await database.close();
  });

  test("jobs and uptime are those of the fleet, not of this process", async () => {
    const clock = { now: Date.now };
    const spec: JobSpec<"SYNC_SCHEDULE"> = {
      id: "sync_accounts",
      name: { en: "Sync accounts", es: "Sincronización de cuentas" },
      description: "For the test.",
      schedule: "SYNC_SCHEDULE",
      timeZone: "UTC",
      dst: { overlap: "first", gap: "shift" },
      overlap: "skip",
      catchUp: "once",
      latestStartMs: 300_000,
      timeoutMs: MINUTE_MS,
      isCritical: true,
    };
    const schedules = { SYNC_SCHEDULE: "*/30 * * * *" };
    const jobs = jobApiServices({ rpc: api.rpc, clock, specs: [spec], schedules });
    const { setting: _, ...facts } = jobs.jobCatalog[0] as (typeof jobs.jobCatalog)[number];
    await jobLedger(api.rpc).sync(
      [{ ...facts, attemptsMax: 1 }],
      true,
      new AbortController().signal,
    );
    await database.sql`
      insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, started_at, finished_at, duration_ms)
      select 'sync_accounts', at, at, 'schedule', 'succeeded', at, at, 1000 + 10 * n
        from generate_series(1, 24) as n, lateral (select now() - n * interval '30 minutes' as at) as slot`;
    await database.sql`select worker.instance_seen('elsewhere', 86420000, 90)`;
    const changes = { clock, fleet: fleet(api.rpc), jobStatuses: jobs.jobStatuses };
    await openStatus(changes)(); // the API of the test run starts with its first request
    const { body, ms } = await best(changes, 0);
    expect(body.degraded_sections).toEqual([]);
    expect(ms).toBeLessThan(ANSWER_MS_MAX);
    expect(body.metrics).toMatchObject({
      uptime_formatted: "1d 0h 0m",
      instances: 1,
      scheduled_jobs: [
        {
          name: "Sincronización de cuentas",
          success_count: 24,
          avg_execution_time: 1.13,
          min_execution_time: 1.01,
          max_execution_time: 1.24,
        },
      ],
      jobs_analysis: {
        job_health: {
          sync_accounts: { status: "healthy", last_execution: { time_ago_seconds: 1800 } },
        },
      },
    });
  });
});
