import type { Clock } from "../kernel/clock.ts";
import { type AppError, transient } from "../kernel/errors.ts";
import { sleepUntil } from "../kernel/retry.ts";
import type { ActiveRun, Run } from "../kernel/run.ts";
import { LEASE_MS } from "./hold-lease.ts";
import type { Job, JobSpec } from "./job.ts";
import type { Claimant, JobFacts, JobLedger, JobRunMessage, SlotClaim } from "./job-ledger.ts";
import { type DueClaim, planDue } from "./plan-due.ts";
import { nextSlot, type SlotRule } from "./plan-slots.ts";
import { type Attempt, type WorkRunDeps, workRun } from "./work-run.ts";

export interface RunJobDeps extends WorkRunDeps {
  readonly clock: Clock;
  readonly jobLedger: JobLedger;
  /** Schedules by the name of their setting. */
  readonly jobSchedules: Readonly<Record<string, string>>;
  /** Names this process in the rows of its runs. */
  readonly instance: string;
}

/** A timer may fire so early that its slot is waited for. Earlier, its instance's clock is wrong: nothing runs. */
export const EARLY_MS = 5000;
/** Rounds in which more slots are due than one round plans. */
const SURPLUS_ROUNDS_MAX = 20;
const EARLY_WAITS_MAX = 3;

/**
 * Runs what a job owes, as its timer does. The timer only says that now is a moment to look: which slots are due is
 * computed from the last one that has a row, by the clock of the database, so early, late, double and lost ticks all end
 * in one row and at most one run for each slot. Idempotency key: job and slot.
 *
 * @throws AppError what the work failed with, after the row says so.
 */
export async function runScheduledJob<S extends RunJobDeps>(
  services: S,
  job: Job<S>,
  run: Run,
): Promise<void> {
  const attempts = await runDue(services, job, true, run);
  const failed = attempts.find(({ kind }) => kind === "failed" || kind === "lost");
  if (failed !== undefined && failed.kind !== "succeeded") throw failed.failure.error;
}

/**
 * Runs what a message of the queue `job-runs` names: a run that waits, or what a silent timer owes. The row remembers a
 * failure and its next attempt, so the message is done either way; only an error of the ledger keeps it.
 */
export async function runQueuedJob<S extends RunJobDeps>(
  services: S,
  jobs: readonly Job<S>[],
  message: JobRunMessage,
  run: ActiveRun,
): Promise<void> {
  const job = jobs.find(({ id }) => id === message.job);
  if (job === undefined) {
    // Of a newer version, perhaps: its row stays, and a version that knows the job is sent another message.
    run.log.warn("job_unknown", { job: message.job });
    return;
  }
  const attempts =
    message.run === undefined
      ? await runDue(services, job, false, run)
      : await runWaiting(services, job, message.run, run);
  const failed = attempts.find(({ kind }) => kind === "failed" || kind === "lost");
  if (failed !== undefined && failed.kind !== "succeeded") run.finish(failed.failure);
}

async function runWaiting<S extends RunJobDeps>(
  services: S,
  job: Job<S>,
  runId: string,
  run: Run,
): Promise<Attempt[]> {
  const claim = await services.jobLedger.claimRun(runId, claimantOf(services), run.signal);
  if (claim.kind === "claimed") return [await workRun(services, job, claim.run, run)];
  run.note({ job: job.id, jobRun: runId, claim: claim.kind });
  if (claim.kind === "waiting") {
    const again = { v: 1, job: job.id, run: runId } as const;
    await services.jobQueue.send(again, claim.waitMs, run.signal);
  }
  return [];
}

async function runDue<S extends RunJobDeps>(
  services: S,
  job: Job<S>,
  isTick: boolean,
  run: Run,
): Promise<Attempt[]> {
  for (let round = 0; round < SURPLUS_ROUNDS_MAX; round += 1) {
    const rule = slotRule(services, job);
    const { now, states } = await services.jobLedger.sync(
      [jobFacts(services, job)],
      isTick && round === 0,
      run.signal,
    );
    const since = states.find(({ id }) => id === job.id)?.since ?? now;
    const plan = planDue(job, { rule, since, now });
    const written = [...plan.surplus, ...plan.missed];
    if (written.length > 0) await services.jobLedger.recordMissed(job.id, written, run.signal);
    if (plan.surplus.length > 0) continue;
    const claims = plan.claims.length > 0 || !isTick ? plan.claims : soonDue(rule, since, now);
    return runClaims(services, job, claims, run);
  }
  throw transient("job_timed_out", { job: job.id, what: "slots left to write down" });
}

/** The slot that this tick is for, when the tick came a moment too early. */
function soonDue(rule: SlotRule, since: number, now: number): DueClaim[] {
  const next = nextSlot(rule, Math.max(since, now));
  if (next === undefined || next.at - now > EARLY_MS) return [];
  return [{ slotAt: next.at, trigger: "schedule", covered: [], missed: [] }];
}

async function runClaims<S extends RunJobDeps>(
  services: S,
  job: Job<S>,
  claims: readonly DueClaim[],
  run: Run,
): Promise<Attempt[]> {
  const attempts: Attempt[] = [];
  const startedAt = performance.now();
  for (const due of claims) {
    const claim = await claimSlot(services, job, due, run.signal);
    if (claim.kind === "claimed") attempts.push(await workRun(services, job, claim.run, run));
    else run.note({ job: job.id, slot: new Date(due.slotAt).toISOString(), claim: claim.kind });
    // Somebody else works through the same slots, or there is no time for another whole run: the next tick goes on.
    const isElsewhere =
      claim.kind === "busy" || (claim.kind === "taken" && claim.status === "running");
    const usedMs = performance.now() - startedAt;
    if (isElsewhere || run.signal.aborted || usedMs + job.timeoutMs > CATCH_UP_MS_MAX) break;
  }
  return attempts;
}

/** Time for all runs of one tick: below the end of its function, with room to store how the last one ended. */
const CATCH_UP_MS_MAX = 510_000;

async function claimSlot<S extends RunJobDeps>(
  services: S,
  job: JobSpec,
  due: DueClaim,
  signal: AbortSignal,
): Promise<SlotClaim> {
  for (let waits = 0; ; waits += 1) {
    const request = { ...due, jobId: job.id, claimant: claimantOf(services) };
    const claim = await services.jobLedger.claimSlot(request, signal);
    const isSoon = claim.kind === "early" && claim.waitMs <= EARLY_MS && waits < EARLY_WAITS_MAX;
    if (!isSoon) return claim;
    await sleepUntil(claim.waitMs, signal);
  }
}

const claimantOf = ({ instance, clock, leaseMs = LEASE_MS }: RunJobDeps): Claimant => ({
  instance,
  leaseMs,
  clientNow: clock.now(),
});

/** When a job is due, with the schedule of its setting. */
export function slotRule(
  { jobSchedules }: Pick<RunJobDeps, "jobSchedules">,
  job: JobSpec,
): SlotRule {
  const { timeZone, dst } = job;
  return { schedule: scheduleText(jobSchedules, job), timeZone, dst };
}

/** What the database is told about a job. */
export function jobFacts(
  { jobSchedules }: Pick<RunJobDeps, "jobSchedules">,
  job: JobSpec,
): JobFacts {
  const { id, timeZone, overlap, catchUp, latestStartMs, timeoutMs, isCritical } = job;
  return {
    id,
    schedule: scheduleText(jobSchedules, job),
    timeZone,
    overlap,
    catchUp,
    latestStartMs,
    timeoutMs,
    attemptsMax: job.attempts ?? 1,
    isCritical,
  };
}

function scheduleText(schedules: Readonly<Record<string, string>>, job: JobSpec): string {
  const text = schedules[job.schedule];
  if (text !== undefined) return text;
  throw missingSchedule(job);
}

const missingSchedule = (job: JobSpec): AppError =>
  transient("config_invalid", { job: job.id, setting: job.schedule });
