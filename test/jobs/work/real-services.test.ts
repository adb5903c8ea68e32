import { randomUUID } from "node:crypto";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createQueues } from "../../../local/backends/storage-queues.ts";
import { loadConfig } from "../../../src/config.ts";
import { cleanup, dailyReports, healthCheck, JOBS, weeklyExport } from "../../../src/jobs.ts";
import { STORAGE_QUEUES } from "../../../src/queues.ts";
import { createServices, type Services } from "../../../src/services.ts";
import { readExport } from "../../ops/export-world.ts";
import {
  openDatabase,
  openQueues,
  openRedis,
  type TestDatabase,
  type TestRedis,
} from "../../support/stack.ts";
import { openRun } from "./work-world.ts";

/** The four jobs as the process runs them: the composition of services, nothing replaced. */
let database: TestDatabase;
let redis: TestRedis;
let services: Services;
let dropContainer: () => Promise<unknown>;
beforeAll(async () => {
  const [queues] = await Promise.all([
    openQueues(),
    openDatabase().then((it) => {
      database = it;
    }),
    openRedis().then((it) => {
      redis = it;
    }),
  ]);
  const { url, key } = await database.supabase();
  const { connectionString } = queues;
  await createQueues(connectionString, STORAGE_QUEUES);
  const container = `jobs-${randomUUID().slice(0, 8)}`;
  services = createServices(
    loadConfig({
      AzureWebJobsStorage: connectionString,
      SUPABASE_URL: url,
      SUPABASE_KEY: key,
      REDIS_URL: redis.url,
      EXPORT_CONTAINER: container,
      QUEUE_CANARY_MINUTES: "0", // the queues of the run belong to all tests
    }),
  );
  const service = BlobServiceClient.fromConnectionString(connectionString);
  dropContainer = () => service.getContainerClient(container).deleteIfExists();
});
afterAll(async () => {
  await dropContainer();
  await services.close();
  await redis.close();
  await database.close();
});

/** Slow counts as degraded, and a machine under load is slow. */
const REACHED = expect.stringMatching(/^(available|degraded)$/);

test("health_check finds every part in order, and remembers what /health says", async () => {
  const { run } = await openRun(database.sql, "health_check");
  await services.alerts.raise(
    { key: "k:1", level: "info", title: "t", evidence: {}, runbook: "r" },
    run.signal,
  );
  const report = await healthCheck.work(services, run);
  expect(report).toMatchObject({
    failed: [],
    health: { cache: REACHED, database: REACHED },
    parts: {
      jobs: { ok: true },
      backlog: { ok: true, unread: 0, missing: 0 },
      canaries: { off: true },
      work: { unaccounted: "0" },
      notices: { ok: true },
    },
  });
  // Without any channel that was set up, notices still reach the log.
  const rows = await database.sql`
    select d.channel, a.key from worker.alert_deliveries d
      join worker.alert_notices n on n.id = d.notice_id join worker.alerts a on a.id = n.alert_id
     where a.key = 'k:1'`;
  expect(rows).toEqual([{ channel: "insights", key: "k:1" }]);
});

test("cleanup, daily_reports and weekly_export do their work", async () => {
  const slotAt = Date.parse("2026-11-22T02:00:00Z");
  const { run } = await openRun(database.sql, "cleanup");
  expect(await cleanup.work(services, run)).toMatchObject({ removed: { job_runs: 0 } });
  const reported = await openRun(database.sql, "daily_reports", slotAt);
  expect(await dailyReports.work(services, reported.run)).toEqual({
    day: "2026-11-21",
    missing: [],
    mail: "off",
  });
  const exported = await openRun(database.sql, "weekly_export", slotAt);
  const week = "2026-11-15";
  expect(await weeklyExport.work(services, exported.run)).toMatchObject({
    week,
    outcome: "finished",
  });
  expect(exported.said.at(-1)).toEqual({ week, files: 9, of: 9 });
  await readExport(services.exportStore, week);
});

test("no report of a job is longer than its row takes", async () => {
  for (const { id } of JOBS) expect(id.length).toBeLessThan(61);
  const { run } = await openRun(database.sql, "health_check");
  const report = await healthCheck.work(services, run);
  expect(JSON.stringify(report).length).toBeLessThan(16_384);
});
