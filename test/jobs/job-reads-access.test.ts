import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

/** The service comes in as service_role and may not do more than it needs: everything here has to be possible for it. */
let database: TestDatabase;
beforeAll(async () => {
  database = await openDatabase();
});
afterAll(() => database.close());

test("the service role reads jobs, runs, statistics, the fleet and the audit log", async () => {
  const facts = {
    ...{ id: "nightly", schedule: "0 3 * * *", timeZone: "UTC", overlap: "skip", catchUp: "once" },
    ...{ latestStartMs: 1000, timeoutMs: 1000, attemptsMax: 1, isCritical: false },
  };
  await database.sql.begin(async (sql) => {
    await sql`set local role service_role`;
    await sql`select worker.job_sync(${sql.json([facts])})`;
    const [started] =
      await sql`select worker.job_start_manual('nightly', 'k', 'ana', 'test', 'r1') as reply`;
    const runId = String(started?.["reply"].runId);
    const [read] = await sql`
      select worker.job_read_jobs() as jobs, worker.job_read_runs('nightly') as runs,
             worker.job_read_run('nightly', ${runId}) as run, worker.job_read_stats(24) as stats,
             worker.instance_read() as fleet, worker.audit_read() as audit`;
    expect(read).toMatchObject({
      jobs: { jobs: [{ id: "nightly", waiting: { runId } }] },
      runs: { rows: [{ runId, requestedBy: "ana" }], next: null },
      run: { runId, status: "queued" },
      stats: { jobs: [{ id: "nightly", open: 1, runs: 0 }] },
      fleet: { upSince: null, instances: [] },
      audit: { rows: [{ action: "job_run", subject: "job:nightly", requestId: "r1" }] },
    });
    const [none] = await sql`select worker.job_read_run('nightly', ${randomUUID()}) as run`;
    expect(none).toEqual({ run: null });
  });
});
