import { parseArgs } from "node:util";
import postgres from "postgres";
import type { JobRun } from "../../src/lib/jobs/job.ts";
import { runQueuedJob, runScheduledJob } from "../../src/lib/jobs/run-job.ts";
import { openScheduler, testJob, testRun } from "../jobs/scheduler-world.ts";

/** One scheduler process: ticks far more often than its job is due, sweeps, and works on what it wakes. */
const { values } = parseArgs({
  options: {
    url: { type: "string", default: "" },
    key: { type: "string", default: "" },
    database: { type: "string", default: "" },
    job: { type: "string", default: "" },
    skewMs: { type: "string", default: "0" },
    catchUp: { type: "string", default: "all" },
    workMs: { type: "string", default: "400" },
    latestStartMs: { type: "string", default: "60000" },
  },
});

const CATCH_UPS = ["skip", "once", "all"] as const;
const LEASE_MS = 1000;
const HEARTBEAT_MS = 250;
const TICK_MS = 100;
/** A run is often frozen or killed in here: mostly before its write, sometimes after it. */
const BEFORE_MS = Number(values.workMs);
const AFTER_MS = 100;

const sql = postgres(values.database, { max: 2, onnotice: () => {} });
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const scheduler = openScheduler({
  url: values.url,
  key: values.key,
  schedule: "* * * * * *",
  skewMs: Number(values.skewMs),
  leaseMs: LEASE_MS,
  heartbeatMs: HEARTBEAT_MS,
});

/** Does not listen to its signal: a frozen process does not either. Only the fence keeps its write out. */
async function work({ runId, fence, slotAt }: JobRun) {
  await pause(BEFORE_MS);
  await sql.begin(async (transaction) => {
    await transaction`select worker.job_assert_fence(${runId}, ${String(fence)})`;
    await transaction`
      insert into public.writes (run_id, fence, slot_at)
      values (${runId}, ${String(fence)}, ${slotAt === undefined ? null : new Date(slotAt)})`;
    await transaction`
      insert into public.effects (slot_at) values (${new Date(slotAt ?? 0)}) on conflict do nothing`;
  });
  await pause(AFTER_MS);
  return {};
}

const job = testJob(values.job, work, {
  overlap: "allow",
  catchUp: CATCH_UPS.find((policy) => policy === values.catchUp) ?? "all",
  latestStartMs: Number(values.latestStartMs),
  timeoutMs: 10_000,
});

const ignore = () => {};
/** Ticks overlap, as those of a late timer do, but do not pile up. */
const TICKS_AT_ONCE = 3;
async function tickForever(): Promise<void> {
  for (;;) {
    await runScheduledJob(scheduler.services, job, testRun().run).catch(ignore);
    await pause(TICK_MS);
  }
}

async function sweepForever(): Promise<void> {
  for (;;) {
    const { run } = testRun();
    const swept = await scheduler.services.runSweeper.sweep(run.signal).catch(() => undefined);
    for (const { runId, jobId } of swept?.send ?? []) {
      const message = { v: 1, job: jobId, run: runId } as const;
      void runQueuedJob(scheduler.services, [job], message, run).catch(ignore);
    }
    await pause(TICK_MS * 3);
  }
}

process.on("disconnect", () => process.exit(0));
process.send?.("ready");
await Promise.all([...Array.from({ length: TICKS_AT_ONCE }, tickForever), sweepForever()]);
