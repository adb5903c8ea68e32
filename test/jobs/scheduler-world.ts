import type { Job, JobReport, JobRun } from "../../src/lib/jobs/job.ts";
import type { JobRunMessage } from "../../src/lib/jobs/job-ledger.ts";
import { jobServices } from "../../src/lib/jobs/job-services.supabase.ts";
import type { RunJobDeps } from "../../src/lib/jobs/run-job.ts";
import { systemClock } from "../../src/lib/kernel/clock.ts";
import type { ActiveRun, LogFields } from "../../src/lib/kernel/run.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";

const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

/** A run without a host; `notes` are what its line would carry. */
export function testRun(signal = new AbortController().signal) {
  const notes: Record<string, unknown> = {};
  const failures: unknown[] = [];
  const run: ActiveRun = {
    name: "test",
    id: "test",
    log: SILENT,
    signal,
    note: (fields: LogFields) => void Object.assign(notes, fields),
    finish: (failure) => void failures.push(failure),
  };
  return { run, notes, failures };
}

export interface SchedulerOptions {
  readonly url: string;
  readonly key: string;
  readonly schedule: string;
  readonly skewMs?: number;
  readonly leaseMs?: number;
  readonly heartbeatMs?: number;
  readonly stopGraceMs?: number;
}

/** The services of one scheduler process, with a queue in memory: messages only wake. */
export function openScheduler(options: SchedulerOptions) {
  const { url, key, schedule, skewMs = 0, leaseMs, heartbeatMs, stopGraceMs } = options;
  const { rpc, close } = createRpc({ url, key });
  const messages: JobRunMessage[] = [];
  const services: RunJobDeps & ReturnType<typeof jobServices> = {
    ...jobServices(rpc),
    clock: { now: () => systemClock.now() + skewMs },
    jobSchedules: { TEST_SCHEDULE: schedule },
    jobQueue: { send: async (message) => void messages.push(message) },
    instance: `test-${process.pid}`,
    ...(leaseMs === undefined ? {} : { leaseMs }),
    ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    ...(stopGraceMs === undefined ? {} : { stopGraceMs }),
  };
  return { services, messages, close };
}

export const testJob = (
  id: string,
  work: (run: JobRun) => Promise<JobReport>,
  parts: Partial<Job<RunJobDeps>> = {},
): Job<RunJobDeps> => ({
  id,
  name: { en: id, es: id },
  description: id,
  schedule: "TEST_SCHEDULE",
  timeZone: "UTC",
  dst: { overlap: "first", gap: "shift" },
  overlap: "skip",
  catchUp: "once",
  latestStartMs: 3_600_000,
  timeoutMs: 60_000,
  isCritical: false,
  work: (_services, run) => work(run),
  ...parts,
});
