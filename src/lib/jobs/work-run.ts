import { untilAborted } from "../kernel/deadline.ts";
import { AppError, type Failure, toFailure, transient } from "../kernel/errors.ts";
import { callAfter, type Repetition } from "../kernel/repeat.ts";
import { backoffMs, retry } from "../kernel/retry.ts";
import type { Run } from "../kernel/run.ts";
import { type HeldLease, holdLease, type LeaseTimes } from "./hold-lease.ts";
import { JOB_TIMEOUT_MAX_MS, type Job, type JobReport, type JobRun } from "./job.ts";
import type { ClaimedRun, Finished, JobQueue, RunEnding, RunLease } from "./job-ledger.ts";

export interface WorkRunDeps {
  readonly runLease: RunLease;
  readonly jobQueue: JobQueue;
  /** Shorter in tests of leases. */
  readonly leaseMs?: number;
  readonly heartbeatMs?: number;
  /** Shorter in tests of work that does not stop. */
  readonly stopGraceMs?: number;
}

/** What became of an attempt. The row says it too, unless the attempt was `lost`. */
export type Attempt =
  | { readonly kind: "succeeded"; readonly report: JobReport }
  | { readonly kind: "failed" | "cancelled" | "lost"; readonly failure: Failure };

/** How long work may take to stop once it was told to. Then nobody waits for it any more. */
const STOP_GRACE_MS = 5000;
/** To store how the run ended, tries included; with the longest timeout and the grace below the function's own end. */
const FINISH_MS = 20_000;
const FINISH_ATTEMPTS = 4;
const RETRY_BASE_MS = 30_000;
const RETRY_CAP_MS = 600_000;
const REPORT_CHARACTERS_MAX = 16_384;
const ERROR_CHARACTERS_MAX = 500;

/**
 * Works on a claimed run and stores how it ended. The row ends whatever the work does: work that does not stop when it is
 * told to is left behind, and its fenced writes are refused.
 */
export async function workRun<S extends WorkRunDeps>(
  services: S,
  job: Job<S>,
  claimed: ClaimedRun,
  run: Run,
): Promise<Attempt> {
  const times: LeaseTimes = {
    timeoutMs: Math.min(job.timeoutMs, JOB_TIMEOUT_MAX_MS),
    heartbeatMs: services.heartbeatMs,
    leaseMs: services.leaseMs,
  };
  const lease = holdLease(services.runLease, claimed, times, run.signal);
  run.note({ job: job.id, jobRun: claimed.runId, fence: claimed.fence, attempt: claimed.attempt });
  run.note({ lateMs: claimed.lateMs, ...slotNote(claimed) });
  try {
    const ended = await settle(services, job, toJobRun(job, claimed, lease, run), lease);
    const finished = await finish(services, claimed, endingOf(job, claimed, ended));
    if (finished.kind === "stale") return { kind: "lost", failure: lostFailure(claimed) };
    if (finished.kind === "queued") await wakeLater(services, job, claimed, finished.waitMs, run);
    run.note({ status: finished.kind === "queued" ? "queued" : finished.status });
    return attemptOf(ended);
  } finally {
    lease.end();
  }
}

type Ended =
  | { readonly kind: "succeeded"; readonly report: JobReport }
  | { readonly kind: "failed"; readonly failure: Failure; readonly isStuck: boolean };

const slotNote = ({ slotAt }: ClaimedRun) =>
  slotAt === undefined ? {} : { slot: new Date(slotAt).toISOString() };

const toJobRun = <S>(job: Job<S>, claimed: ClaimedRun, lease: HeldLease, run: Run): JobRun => ({
  ...run,
  signal: lease.signal,
  jobId: job.id,
  runId: claimed.runId,
  fence: claimed.fence,
  slotAt: claimed.slotAt,
  progress: lease.progress,
});

/** Ends soon after the lease's signal aborts, whether or not the work listens. */
async function settle<S extends WorkRunDeps>(
  services: S,
  job: Job<S>,
  jobRun: JobRun,
  lease: HeldLease,
): Promise<Ended> {
  const working = Promise.resolve()
    .then(() => job.work(services, jobRun))
    .then(
      (report): Ended => ({ kind: "succeeded", report }),
      (error: unknown): Ended => ({ kind: "failed", failure: whyOf(error, lease), isStuck: false }),
    );
  const stuck = afterAbort(lease.signal, services.stopGraceMs ?? STOP_GRACE_MS);
  try {
    return await untilAborted(working, stuck.signal);
  } catch {
    return { kind: "failed", failure: toFailure(lease.signal.reason), isStuck: true };
  } finally {
    stuck.end();
  }
}

/** What stopped the work says more than what the work says about being stopped. */
const whyOf = (error: unknown, { signal }: HeldLease): Failure =>
  toFailure(signal.aborted ? signal.reason : error);

/** Aborts `ms` after `signal` did. */
function afterAbort(signal: AbortSignal, ms: number): { signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  let timer: Repetition | undefined;
  const onAbort = () => {
    timer = callAfter(ms, () => controller.abort(transient("job_timed_out")));
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return {
    signal: controller.signal,
    end: () => {
      timer?.stop();
      signal.removeEventListener("abort", onAbort);
    },
  };
}

function endingOf<S>(job: Job<S>, claimed: ClaimedRun, ended: Ended): RunEnding {
  if (ended.kind === "succeeded") {
    return { status: "succeeded", report: boundedReport(ended.report) };
  }
  const { failure, isStuck } = ended;
  const ending = {
    errorCode: failure.code,
    errorText: failure.error.message.slice(0, ERROR_CHARACTERS_MAX),
  };
  if (failure.code === "job_cancelled" && !isStuck) {
    return { ...ending, status: "cancelled", reason: "requested" };
  }
  const isAgain = failure.kind === "transient" && (job.attempts ?? 1) > 1;
  return {
    ...ending,
    status: isStuck ? "abandoned" : "failed",
    reason: reasonOf(failure),
    ...(isAgain ? { retryMs: pauseMs(claimed.attempt) } : {}),
  };
}

const REASONS: Readonly<Record<string, string>> = {
  job_timed_out: "timed_out",
  job_cancelled: "requested",
  job_lease_lost: "lease_lost",
};
const reasonOf = ({ code }: Failure): string => REASONS[code] ?? "work_failed";

/** At least half of the delay: an attempt at once would meet the same trouble. */
const pauseMs = (attempt: number): number => {
  const delay = { baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS };
  return Math.floor(
    (backoffMs(attempt, { ...delay, random: () => 1 }) + backoffMs(attempt, delay)) / 2,
  );
};

function boundedReport(report: JobReport): JobReport {
  const characters = JSON.stringify(report).length;
  return characters <= REPORT_CHARACTERS_MAX ? report : { isTooLarge: true, characters };
}

/** The function's own signal may be over by now; the ending still has to be stored. */
async function finish(
  { runLease }: WorkRunDeps,
  claimed: ClaimedRun,
  ending: RunEnding,
): Promise<Finished> {
  const signal = AbortSignal.timeout(FINISH_MS);
  return retry(() => runLease.finish(claimed, ending, signal), {
    attempts: FINISH_ATTEMPTS,
    baseMs: 500,
    capMs: 4000,
    signal,
  });
}

/** Without the message the sweep sends one later. */
async function wakeLater<S>(
  { jobQueue }: WorkRunDeps,
  job: Job<S>,
  { runId }: ClaimedRun,
  waitMs: number,
  run: Run,
): Promise<void> {
  const message = { v: 1, job: job.id, run: runId } as const;
  await jobQueue.send(message, waitMs, AbortSignal.timeout(FINISH_MS)).catch((error: unknown) => {
    run.log.warn("job_wake_failed", { job: job.id, jobRun: runId, code: toFailure(error).code });
  });
}

const lostFailure = ({ runId }: ClaimedRun): Failure =>
  toFailure(new AppError("transient", "job_lease_lost", { details: { runId } }));

function attemptOf(ended: Ended): Attempt {
  if (ended.kind === "succeeded") return ended;
  const { failure } = ended;
  return { kind: failure.code === "job_cancelled" ? "cancelled" : "failed", failure };
}
