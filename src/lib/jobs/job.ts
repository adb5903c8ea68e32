import type { Run } from "../kernel/run.ts";

/** Leaves a run time to store how it ended, before its function has to. */
export const JOB_TIMEOUT_MAX_MS = 510_000;

/** What a run reports when it ends: counts, ids and durations, never content. At most 16 KiB as JSON. */
export type JobReport = Readonly<Record<string, unknown>>;

/** One run of a job, as its work sees it. `signal` aborts on its timeout, a cancel, a lost lease and shutdown. */
export interface JobRun extends Run {
  readonly jobId: string;
  /** Row of `worker.job_runs`. */
  readonly runId: string;
  /** Rises with every claim of this run; writes of the run are refused once somebody else claimed it. */
  readonly fence: number;
  /** The planned instant, milliseconds since 1970; undefined when somebody started it by hand. */
  readonly slotAt: number | undefined;
  /** Shows in the run's record while it works; best effort, at most one write per second. */
  progress(fields: JobReport): void;
}

/** Local times that a clock change repeats or leaves out. */
export interface DstRule {
  /** Which of the two instants of a repeated local time is a slot. */
  readonly overlap: "first" | "last" | "both";
  /** A local time that does not exist moves behind the gap, or is no slot. */
  readonly gap: "shift" | "skip";
}

/** What everybody knows about a job, without what it does. */
export interface JobSpec<Schedule extends string = string> {
  /** snake_case; public interface. */
  readonly id: string;
  readonly name: { readonly en: string; readonly es: string };
  readonly description: string;
  /** The setting that holds its schedule. */
  readonly schedule: Schedule;
  /** IANA name. The platform's timer ticks in UTC; slots of other zones are ours to plan. */
  readonly timeZone: string;
  readonly dst: DstRule;
  /** What a slot does while an earlier run of the job still works. */
  readonly overlap: "skip" | "allow";
  /** What missed slots become: nothing, one run for all of them, or one run each. Each has a row either way. */
  readonly catchUp: "skip" | "once" | "all";
  /** How late a slot may still start. */
  readonly latestStartMs: number;
  /** At most `JOB_TIMEOUT_MAX_MS`: the platform ends a function after 10 minutes. Longer work is split and queued. */
  readonly timeoutMs: number;
  /** Attempts at one slot that may fail with a transient error, 1 .. 20; absent = 1. */
  readonly attempts?: number;
  /** A failed, missed or abandoned run of a critical job is a critical alert. */
  readonly isCritical: boolean;
}

/** A scheduled job: one timer function, one row per planned slot. */
export interface Job<Services, Schedule extends string = string> extends JobSpec<Schedule> {
  /** Safe to run twice: attempts happen at least once. */
  readonly work: (services: Services, run: JobRun) => Promise<JobReport>;
}
