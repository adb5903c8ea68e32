import { AppError, permanent, transient } from "../kernel/errors.ts";
import { callAfter, repeatEvery } from "../kernel/repeat.ts";
import type { JobReport } from "./job.ts";
import type { ClaimedRun, RunLease } from "./job-ledger.ts";

/** How long a run may be silent before others take it. */
export const LEASE_MS = 60_000;
/** So many heartbeats fit into a lease; a cancel is heard within one. */
const HEARTBEATS_PER_LEASE = 6;
const PROGRESS_PAUSE_MS = 1000;

export interface HeldLease {
  /** Aborts with why the run has to stop: `job_cancelled`, `job_lease_lost` or `job_timed_out`. */
  readonly signal: AbortSignal;
  /** Kept with the run at the next write, at most one a second. */
  progress(fields: JobReport): void;
  end(): void;
}

export interface LeaseTimes {
  readonly timeoutMs: number;
  readonly heartbeatMs?: number | undefined;
  readonly leaseMs?: number | undefined;
}

/**
 * Keeps a run ours while it works. Its time is measured by a clock that also runs while the process is frozen: after a
 * thaw the first heartbeat says whether the run is still ours.
 */
export function holdLease(
  runLease: RunLease,
  claimed: ClaimedRun,
  { timeoutMs, leaseMs = LEASE_MS, heartbeatMs = leaseMs / HEARTBEATS_PER_LEASE }: LeaseTimes,
  parent: AbortSignal,
): HeldLease {
  const controller = new AbortController();
  const stop = (reason: AppError) => controller.abort(reason);
  const onParent = () => stop(stopReason(parent, timeoutMs));
  const timeout = callAfter(timeoutMs, () => stop(transient("job_timed_out", { timeoutMs })));
  if (parent.aborted) onParent();
  else parent.addEventListener("abort", onParent, { once: true });

  let heardAt = performance.now();
  let told: JobReport | undefined;
  const beat = async () => {
    const progress = told;
    told = undefined;
    try {
      // Not the run's signal: a run that is stopping still needs its lease.
      const answer = await runLease.heartbeat(claimed, leaseMs, progress, neverAborts());
      if (answer === "ok") heardAt = performance.now();
      if (answer === "cancel") stop(permanent("job_cancelled", { runId: claimed.runId }));
      if (answer === "stale") stop(transient("job_lease_lost", { runId: claimed.runId }));
    } catch {
      told ??= progress;
      const silentMs = Math.round(performance.now() - heardAt);
      // The lease is about to end, by a clock that is not ours.
      if (silentMs > leaseMs - heartbeatMs) stop(transient("job_lease_lost", { silentMs }));
    }
  };
  const heartbeat = repeatEvery(heartbeatMs, beat);
  const progressWrites = repeatEvery(PROGRESS_PAUSE_MS, async () => {
    if (told !== undefined) await beat();
  });
  return {
    signal: controller.signal,
    progress: (fields) => {
      told = fields;
    },
    end: () => {
      timeout.stop();
      heartbeat.stop();
      progressWrites.stop();
      parent.removeEventListener("abort", onParent);
    },
  };
}

/** The call has a deadline of its own. */
const neverAborts = (): AbortSignal => new AbortController().signal;

/** The function's own deadline is a timeout of the run, too. */
function stopReason(parent: AbortSignal, timeoutMs: number): AppError {
  const reason: unknown = parent.reason;
  const isDeadline = reason instanceof AppError && reason.code === "deadline_exceeded";
  if (reason instanceof AppError && !isDeadline) return reason;
  return transient("job_timed_out", { timeoutMs });
}
