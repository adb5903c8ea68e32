import type { Alert, Alerts } from "../kernel/alerts.ts";
import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { JobReport, JobSpec } from "./job.ts";
import type {
  JobLedger,
  JobQueue,
  JobRunMessage,
  JobState,
  RunSweeper,
  Swept,
} from "./job-ledger.ts";
import { judgeJob } from "./judge-job.ts";
import { jobFacts, slotRule } from "./run-job.ts";

export interface SuperviseDeps {
  readonly jobLedger: JobLedger;
  readonly runSweeper: RunSweeper;
  readonly jobQueue: JobQueue;
  readonly jobSchedules: Readonly<Record<string, string>>;
  readonly jobSpecs: readonly JobSpec[];
  readonly alerts: Alerts;
}

/**
 * Looks after every job of the registry, each minute: settles runs whose lease is over, wakes runs that wait, has slots run
 * whose timer is silent, and raises `job_silent:<id>` and `job_failing:<id>` or resolves them. Safe to run twice: messages
 * only wake, rows decide. One job in trouble keeps no other from being looked after.
 *
 * @throws what the first part failed with, after all parts were tried.
 */
export async function superviseJobs(services: SuperviseDeps, run: Run): Promise<JobReport> {
  const swept = await services.runSweeper.sweep(run.signal);
  const { now, states } = await services.jobLedger.sync(
    services.jobSpecs.map((job) => jobFacts(services, job)),
    false,
    run.signal,
  );
  const findings = services.jobSpecs.flatMap((job) => {
    const state = states.find(({ id }) => id === job.id);
    return state === undefined
      ? []
      : [{ job, state, ...judgeJob(slotRule(services, job), state, now) }];
  });
  const owing = findings.filter(({ isOwing }) => isOwing).map(({ job }) => job.id);
  const messages: JobRunMessage[] = [
    ...swept.send.map(({ jobId, runId }) => ({ v: 1, job: jobId, run: runId }) as const),
    ...owing.map((job) => ({ v: 1, job }) as const),
  ];
  await settleAll([
    ...messages.map((message) => services.jobQueue.send(message, 0, run.signal)),
    ...findings.flatMap(({ job, state, silent, failing }) => [
      report(
        services.alerts,
        `job_silent:${job.id}`,
        silent && silentAlert(job, state, silent),
        run.signal,
      ),
      report(
        services.alerts,
        `job_failing:${job.id}`,
        failing && failingAlert(job, state),
        run.signal,
      ),
    ]),
  ]);
  return {
    jobs: findings.length,
    ...countsOf(swept),
    owing,
    silent: findings.filter(({ silent }) => silent !== undefined).map(({ job }) => job.id),
    failing: findings.filter(({ failing }) => failing).map(({ job }) => job.id),
  };
}

const countsOf = ({ requeued, abandoned, ended, send }: Swept) => ({
  requeued: requeued.length,
  abandoned: abandoned.length,
  ended,
  sent: send.length,
});

/** Waits for all, then throws the first failure. */
async function settleAll(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((it) => it.status === "rejected");
  if (failed !== undefined) throw toFailure(failed.reason).error;
}

const report = (
  alerts: Alerts,
  key: string,
  alert: Alert | false | undefined,
  signal: AbortSignal,
): Promise<void> => (alert ? alerts.raise(alert, signal) : alerts.resolve(key, signal));

const RUNBOOK = "docs/operations/a-job-did-not-run.md";
const iso = (at: number | undefined) => (at === undefined ? null : new Date(at).toISOString());

const silentAlert = (job: JobSpec, state: JobState, silent: { since: number }): Alert => ({
  key: `job_silent:${job.id}`,
  level: job.isCritical ? "critical" : "warning",
  title: "The timer of a job does not fire",
  evidence: { job: job.id, firstMissedSlot: iso(silent.since), lastTickAt: iso(state.lastTickAt) },
  runbook: `${RUNBOOK}#the-timer-is-silent`,
});

const failingAlert = (job: JobSpec, { last }: JobState): Alert => ({
  key: `job_failing:${job.id}`,
  level: job.isCritical ? "critical" : "warning",
  title: "The last run of a job did not succeed",
  evidence: {
    job: job.id,
    run: last?.runId ?? null,
    status: last?.status ?? null,
    reason: last?.reason ?? null,
    dueAt: iso(last?.dueAt),
  },
  runbook: `${RUNBOOK}#the-last-run-failed`,
});
