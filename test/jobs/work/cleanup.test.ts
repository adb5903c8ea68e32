import { randomUUID } from "node:crypto";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { rowCleaner } from "../../../src/lib/jobs/work/cleanup.supabase.ts";
import { CLEANUP_ROWS, type CleanupDeps, cleanUp } from "../../../src/lib/jobs/work/cleanup.ts";
import { expiredExports } from "../../../src/lib/ops/exports.supabase.ts";
import { removeExpiredExports, removeOrphanBlobs } from "../../../src/lib/ops/exports-cleanup.ts";
import { type BlobStore, createBlobStore } from "../../../src/lib/runtime/blob-store.storage.ts";
import { createRpc } from "../../../src/lib/runtime/rpc.supabase.ts";
import { openDatabase, openQueues, type TestDatabase } from "../../support/stack.ts";
import { openRun } from "./work-world.ts";

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let store: BlobStore;
let dropContainer: () => Promise<unknown>;
beforeAll(async () => {
  database = await openDatabase();
  const { url, key } = await database.supabase();
  api = createRpc({ url, key });
  const { connectionString } = await openQueues();
  const container = `cleanup-${randomUUID().slice(0, 8)}`;
  store = createBlobStore({ connectionString, container });
  const service = BlobServiceClient.fromConnectionString(connectionString);
  dropContainer = () => service.getContainerClient(container).deleteIfExists();
});
afterAll(async () => {
  await dropContainer();
  await api.close();
  await database.close();
});
beforeEach(async () => {
  await database.sql`
    truncate worker.jobs, worker.job_runs, worker.work_items, worker.work_replays, worker.alerts, worker.alert_channels,
      worker.reports, worker.exports, worker.instances, worker.canaries cascade`;
});

const DAY_MS = 86_400_000;
const days = (count: number) => new Date(Date.now() - count * DAY_MS);

const depsWith = (parts: Partial<CleanupDeps> = {}): CleanupDeps => {
  const cleaning = { expiredExports: expiredExports(api.rpc), exportBlobs: store };
  return {
    clock: { now: Date.now },
    cleanupConfig: {
      runsKept: 3,
      retainDays: {
        job_runs: 30,
        work_items: 30,
        dead_items: 90,
        work_replays: 90,
        alerts: 60,
        alert_messages: 60,
        reports: 60,
        exports: 60,
        instances: 1,
        canaries: 1,
      },
    },
    rowCleaner: rowCleaner(api.rpc),
    exportCleaner: {
      removeExpired: (bound, run) => removeExpiredExports(cleaning, bound, run),
      removeOrphans: (bound, run) => removeOrphanBlobs(cleaning, bound, run),
    },
    ...parts,
  };
};

const keys = async (table: string, column: string) => {
  const rows = await database.sql.unsafe(`select ${column} as key from worker.${table} order by 1`);
  return rows.map((row) => row["key"]);
};

async function addRuns(jobId: string, ages: readonly number[], status = "succeeded") {
  for (const age of ages)
    await database.sql`
      insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, finished_at, lease_until, started_at)
      values (${jobId}, ${days(age)}, ${days(age)}, 'schedule', ${status},
              ${status === "running" ? null : days(age)}, now(), ${days(age)})`;
}

async function addItem(tenant: string, state: string, age: number) {
  const isOver = ["succeeded", "dead", "cancelled"].includes(state);
  await database.sql`
    insert into worker.work_items (kind, version, tenant, priority, payload, state, due_at, max_attempts, requested_by,
      finished_at, code, claimed_by, lease_until)
    values ('document', 1, ${tenant}, 'low', '{}', ${state}, now(), 3, 'test', ${isOver ? days(age) : null},
      ${state === "dead" ? "x" : null}, ${state === "running" ? "w" : null}, ${state === "running" ? days(age) : null})`;
}

async function addAlert(key: string, age: number, isResolved: boolean) {
  await database.sql`
    insert into worker.alerts (key, kind, level, state, title, runbook, first_seen, last_seen, noticed_at, noticed_level,
      resolved_at)
    values (${key}, 'k', 'info', ${isResolved ? "resolved" : "firing"}, 't', 'r', ${days(age)}, ${days(age)},
      ${days(age)}, 'info', ${isResolved ? days(age) : null})`;
}

describe("cleanup", () => {
  test("keeps the newest runs of each job however old, and what is younger than its retention", async () => {
    const { run } = await openRun(database.sql);
    await openRun(database.sql, "rare");
    await database.sql`delete from worker.job_runs where job_id = 'rare'`;
    await addRuns("rare", [100, 200, 300, 400, 500]);
    await addRuns("cleanup", [1, 2, 3, 29, 31, 40]);
    expect(await cleanUp(depsWith(), run)).toMatchObject({ removed: { job_runs: 4 }, left: [] });
    const rows = await database.sql`
      select job_id, round(extract(epoch from now() - due_at) / 86400)::int as age from worker.job_runs order by 1, 2`;
    expect(rows.map(({ job_id, age }) => `${job_id} ${age}`)).toEqual([
      "cleanup 0",
      "cleanup 1",
      "cleanup 2",
      "cleanup 3",
      "cleanup 29",
      "rare 100",
      "rare 200",
      "rare 300",
    ]);
  });

  test("never touches what is live, however old", async () => {
    const { run } = await openRun(database.sql);
    await addRuns("cleanup", [1, 2, 3, 500], "running");
    for (const state of ["queued", "running", "retrying"]) await addItem(state, state, 500);
    await addAlert("k:open", 500, false);
    const { removed } = (await cleanUp(depsWith(), run)) as { removed: Record<string, number> };
    expect(Object.values(removed).every((count) => count === 0)).toBe(true);
    expect(await keys("work_items", "tenant")).toEqual(["queued", "retrying", "running"]);
    expect(await keys("alerts", "key")).toEqual(["k:open"]);
  });

  test("keeps dead letters longer than what ended well, and the books stay right", async () => {
    const { run } = await openRun(database.sql);
    for (const [tenant, state, age] of [
      ["old", "succeeded", 31],
      ["new", "succeeded", 29],
      ["gone", "cancelled", 31],
      ["dead", "dead", 31],
      ["buried", "dead", 91],
    ] as const)
      await addItem(tenant, state, age);
    const before = await api.rpc("work_accounting", {}, run.signal);
    expect(await cleanUp(depsWith(), run)).toMatchObject({
      removed: { work_items: 2, dead_items: 1 },
    });
    expect(await keys("work_items", "tenant")).toEqual(["dead", "new"]);
    expect(await api.rpc("work_accounting", {}, run.signal)).toEqual(before);
  });

  test("removes old incidents with their notices and messages, reports, copies and canaries", async () => {
    const { run } = await openRun(database.sql);
    const { sql } = database;
    await addAlert("k:old", 61, true);
    await addAlert("k:new", 59, true);
    await sql`insert into worker.alert_channels (channel, since_id) values ('slack', 0)`;
    for (const key of ["k:old", "k:new"])
      await sql`
        with n as (
          insert into worker.alert_notices (alert_id, reason, level, noticed_at)
          select id, 'new', 'info', resolved_at from worker.alerts where key = ${key} returning id, noticed_at),
        m as (
          insert into worker.alert_messages (channel, state, claimed_at, lease_until, ended_at)
          select 'slack', 'sent', noticed_at, noticed_at, noticed_at from n returning id)
        insert into worker.alert_deliveries (notice_id, channel, message_id) select n.id, 'slack', m.id from n, m`;
    await sql`insert into worker.reports (day, data, html) values (${days(62)}, '{}', ''), (${days(3)}, '{}', '')`;
    await sql`
      insert into worker.instances (id, started_at, seen_at, memory_mb)
      values ('gone', ${days(3)}, ${days(2)}, 1), ('here', ${days(3)}, now(), 1)`;
    await sql`
      insert into worker.canaries (queue, sent_at, arrived_at)
      values ('a', ${days(3)}, now()), ('a', ${days(2)}, now()), ('b', ${days(9)}, null)`;
    expect(await cleanUp(depsWith(), run)).toMatchObject({
      removed: { alerts: 1, alert_messages: 1, reports: 1, instances: 1, canaries: 1 },
    });
    expect(await keys("alert_notices", "count(*)::int")).toEqual([1]);
    expect(await keys("alert_deliveries", "count(*)::int")).toEqual([1]);
    expect(await keys("alert_messages", "count(*)::int")).toEqual([1]);
    expect(await keys("instances", "id")).toEqual(["here"]);
    expect(await keys("canaries", "queue")).toEqual(["a", "b"]); // the newest of each queue says how it is
  });

  test("takes what is too much for one run in the next", async () => {
    const { run } = await openRun(database.sql);
    await database.sql`
      insert into worker.work_items (kind, version, tenant, priority, payload, state, due_at, max_attempts, requested_by,
        finished_at)
      select 'document', 1, 't', 'low', '{}', 'succeeded', now(), 3, 'test', ${days(40)}
        from generate_series(1, 2500)`;
    let batches = 0;
    const slow = rowCleaner(api.rpc);
    const counting: CleanupDeps["rowCleaner"] = {
      deleteBatch: (batch, signal) => {
        if (batch.what === "work_items") batches += 1;
        return slow.deleteBatch(batch, signal);
      },
    };
    expect(await cleanUp(depsWith({ rowCleaner: counting }), run)).toMatchObject({
      removed: { work_items: 2500 },
    });
    expect(batches).toBe(3);
  });

  test("says what is left when its bound is reached", async () => {
    const { run } = await openRun(database.sql);
    const endless = { deleteBatch: () => Promise.resolve(1000) };
    const report = await cleanUp(depsWith({ rowCleaner: endless }), run);
    expect(report).toMatchObject({ removed: { alerts: 50_000 }, left: [...CLEANUP_ROWS] });
  });

  test("deletes nothing once somebody else has the run", async () => {
    const { run } = await openRun(database.sql);
    await addAlert("k:old", 61, true);
    await database.sql`update worker.job_runs set fence = 8`;
    await expect(cleanUp(depsWith(), run)).rejects.toMatchObject({ code: "database_refused" });
    expect(await keys("alerts", "key")).toEqual(["k:old"]);
  });

  test("goes on when one category fails, and says which", async () => {
    const { run } = await openRun(database.sql);
    await addAlert("k:old", 61, true);
    const real = rowCleaner(api.rpc);
    const broken: CleanupDeps["rowCleaner"] = {
      deleteBatch: (batch, signal) =>
        batch.what === "job_runs"
          ? Promise.reject(new Error("down"))
          : real.deleteBatch(batch, signal),
    };
    await expect(cleanUp(depsWith({ rowCleaner: broken }), run)).rejects.toMatchObject({
      kind: "transient",
      details: { categories: "job_runs" },
    });
    expect(await keys("alerts", "key")).toEqual([]);
  });
});

describe("exports that are cleaned up", () => {
  const put = async (path: string) => {
    async function* content() {
      yield Buffer.from("x");
    }
    await store.put(path, content(), { contentType: "text/plain" }, AbortSignal.timeout(10_000));
  };
  const paths = async () => {
    const page = await store.list("exports/", { limit: 100 }, AbortSignal.timeout(10_000));
    return page.blobs.map(({ path }) => path);
  };
  const addExport = async (week: string) => {
    await database.sql`
      insert into worker.exports (week, format, state, manifest, finished_at, ledger_after, ledger_to)
      values (${week}, 'csv', 'finished', '{}', now(), 0, 0)`;
    await database.sql`
      insert into worker.export_files (week, name, path, rows, bytes, content_bytes, sha256)
      values (${week}, 'a', ${`exports/${week}/a.1.csv.gz`}, 1, 1, 1, ${"0".repeat(64)})`;
    for (const name of ["a.1.csv.gz", "manifest.json"]) await put(`exports/${week}/${name}`);
  };

  test("go with their blobs, and a removal that was broken off is finished", async () => {
    const { run } = await openRun(database.sql);
    await addExport("2026-01-04");
    await addExport("2026-11-15");
    await store.delete("exports/2026-01-04/manifest.json", run.signal); // as if it died there
    expect(await cleanUp(depsWith(), run)).toMatchObject({ removed: { exports: 1 } });
    expect(await keys("exports", "week::text")).toEqual(["2026-11-15"]);
    expect(await paths()).toEqual([
      "exports/2026-11-15/a.1.csv.gz",
      "exports/2026-11-15/manifest.json",
    ]);
  });

  test("files that no export knows go once nobody can be writing them", async () => {
    const { run } = await openRun(database.sql);
    await addExport("2026-11-15");
    await put("exports/2026-11-15/a.2.csv.gz");
    await cleanUp(depsWith(), run);
    expect(await paths()).toHaveLength(3);
    const later = { now: () => Date.now() + 3 * DAY_MS };
    expect(await cleanUp(depsWith({ clock: later }), run)).toMatchObject({
      removed: { orphan_blobs: 1 },
    });
    expect(await paths()).toEqual([
      "exports/2026-11-15/a.1.csv.gz",
      "exports/2026-11-15/manifest.json",
    ]);
  });
});
