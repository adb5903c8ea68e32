import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { RUN_STATUSES } from "./run-statuses.ts";

const Status = z.enum(RUN_STATUSES);
const Trigger = z.enum(["schedule", "catch_up", "manual"]);
const Fields = z.record(z.string(), z.unknown());
const count = z.int().min(0);
const duration = z.number().nullable();

export const RunSchema = z.object({
  runId: z.string(),
  jobId: z.string(),
  slotAt: z.string().nullable().describe("The planned instant; null = started by hand."),
  dueAt: z.string(),
  trigger: Trigger,
  status: Status,
  reason: z.string().nullable().describe("Why it is in this status: a code."),
  reasonText: z.string().nullable(),
  attempt: count,
  failures: count,
  crashes: count.describe("Attempts that ended without a word."),
  staleAttempts: count.describe("Writes that were refused because somebody else had claimed it."),
  claimedBy: z.string().nullable(),
  startAfter: z.string().nullable(),
  startedAt: z.string().nullable(),
  heartbeatAt: z.string().nullable(),
  leaseUntil: z.string().nullable(),
  finishedAt: z.string().nullable(),
  durationMs: duration,
  lateMs: duration,
  skewMs: duration,
  progress: Fields.nullable(),
  report: Fields.nullable(),
  errorCode: z.string().nullable(),
  errorText: z.string().nullable(),
  coveredBy: z.string().nullable().describe("The run that did the work of this slot."),
  requestedBy: z.string().nullable(),
  requestedReason: z.string().nullable(),
  cancelRequestedAt: z.string().nullable(),
  cancelRequestedBy: z.string().nullable(),
  cancelReason: z.string().nullable(),
});
export type RunRow = z.output<typeof RunSchema>;

export const RunStatsSchema = z.object({
  since: z.string().nullable().describe("The oldest run that is counted."),
  succeeded: count,
  failed: count.describe("Abandoned ones too."),
  missed: count,
  skipped: count,
  avgMs: duration,
  minMs: duration,
  maxMs: duration,
  p50Ms: duration,
  p95Ms: duration,
});

export const LastRunSchema = z.object({
  runId: z.string(),
  status: Status,
  reason: z.string().nullable(),
  errorCode: z.string().nullable(),
  dueAt: z.string(),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  durationMs: duration,
});

export const RunningSchema = z.object({
  runId: z.string(),
  startedAt: z.string(),
  leaseUntil: z.string(),
  claimedBy: z.string().nullable(),
  progress: Fields.nullable(),
});

export const WaitingSchema = z.object({
  runId: z.string(),
  startAfter: z.string().nullable(),
  reason: z.string().nullable(),
  failures: count,
  crashes: count,
  errorCode: z.string().nullable(),
  trigger: Trigger,
});

const KnownJob = z.object({
  id: z.string(),
  schedule: z.string(),
  isEnabled: z.boolean(),
  disabledAt: z.string().nullable(),
  disabledBy: z.string().nullable(),
  disabledReason: z.string().nullable(),
  plannedFrom: z.string(),
  lastSlotAt: z.string().nullable(),
  lastTickAt: z.string().nullable(),
  running: RunningSchema.nullable(),
  waiting: WaitingSchema.nullable(),
  last: LastRunSchema.nullable(),
  stats: RunStatsSchema,
});
/** What the ledger knows about one job. */
export type KnownJob = z.output<typeof KnownJob>;
const KnownJobs = z.object({ now: z.string().transform(Date.parse), jobs: z.array(KnownJob) });

export const JobStatsSchema = z.object({
  id: z.string(),
  runs: count.describe("That worked and ended: succeeded, failed or abandoned."),
  succeeded: count,
  failed: count,
  abandoned: count,
  cancelled: count,
  skipped: count,
  missed: count,
  caughtUp: count,
  open: count,
  errorRate: z.number().nullable().describe("Share of failed and abandoned runs, 0 to 1."),
  avgMs: duration,
  minMs: duration,
  maxMs: duration,
  p50Ms: duration,
  p95Ms: duration,
  lateP95Ms: duration,
  isCapped: z.boolean().describe("The window has more than the 20,000 runs that are counted."),
});
const Stats = z.object({ now: z.string(), since: z.string(), jobs: z.array(JobStatsSchema) });

/** The last row of a page: where the next one goes on. */
export interface RunCursor {
  readonly dueAt: string;
  readonly id: string;
}
const Runs = z.object({
  rows: z.array(RunSchema),
  next: z.object({ dueAt: z.string(), id: z.string() }).nullable(),
});

export interface RunPage {
  readonly status?: (typeof RUN_STATUSES)[number] | undefined;
  readonly after?: RunCursor | undefined;
  readonly limit: number;
}

/** Reads of the management API: bounded, however long the history is. */
export interface JobReads {
  /** All jobs that the ledger knows, or the one. */
  jobs(jobId: string | undefined, signal: AbortSignal): Promise<z.output<typeof KnownJobs>>;
  runs(jobId: string, page: RunPage, signal: AbortSignal): Promise<z.output<typeof Runs>>;
  run(jobId: string, runId: string, signal: AbortSignal): Promise<RunRow | undefined>;
  stats(hours: number, signal: AbortSignal): Promise<z.output<typeof Stats>>;
}

export const jobReads = (rpc: Rpc): JobReads => ({
  jobs: async (jobId, signal) =>
    parseReply(KnownJobs, await rpc("job_read_jobs", { p_job: jobId ?? null }, signal)),
  runs: async (jobId, { status, after, limit }, signal) => {
    const args = {
      p_job: jobId,
      p_status: status ?? null,
      p_before_due: after?.dueAt ?? null,
      p_before_id: after?.id ?? null,
      p_limit: limit,
    };
    return parseReply(Runs, await rpc("job_read_runs", args, signal));
  },
  run: async (jobId, runId, signal) => {
    const row = await rpc("job_read_run", { p_job: jobId, p_run: runId }, signal);
    return row === null ? undefined : parseReply(RunSchema, row);
  },
  stats: async (hours, signal) =>
    parseReply(Stats, await rpc("job_read_stats", { p_hours: hours }, signal)),
});

function parseReply<T extends z.ZodType>(schema: T, row: unknown): z.output<T> {
  const parsed = schema.safeParse(row);
  if (parsed.success) return parsed.data;
  const details = { what: "jobs" };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}
