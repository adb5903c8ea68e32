/** Instants are milliseconds since 1970, by the clock of the database. */

/** A job as the database knows it. */
export interface JobFacts {
  readonly id: string;
  readonly schedule: string;
  readonly timeZone: string;
  readonly overlap: "skip" | "allow";
  readonly catchUp: "skip" | "once" | "all";
  readonly latestStartMs: number;
  readonly timeoutMs: number;
  readonly attemptsMax: number;
  readonly isCritical: boolean;
}

export interface JobState {
  readonly id: string;
  readonly isEnabled: boolean;
  /** Slots up to here have a row, or are nobody's. */
  readonly since: number;
  /** When its own timer last fired; undefined = not since it became known. */
  readonly lastTickAt: number | undefined;
  /** When it became known, or its schedule changed. */
  readonly plannedFrom: number;
  /** The newest run that succeeded, failed, was missed or abandoned. */
  readonly last: LastRun | undefined;
}

export interface LastRun {
  readonly runId: string;
  readonly status: "succeeded" | "failed" | "missed" | "abandoned";
  readonly reason: string | undefined;
  readonly dueAt: number;
}

/** A run that is ours until its lease ends. */
export interface ClaimedRun {
  readonly runId: string;
  readonly fence: number;
  /** 1 for the first claim. */
  readonly attempt: number;
  readonly slotAt: number | undefined;
  readonly lateMs: number;
}

export type SlotClaim =
  | { readonly kind: "claimed"; readonly run: ClaimedRun }
  | { readonly kind: "taken"; readonly runId: string; readonly status: string }
  | { readonly kind: "skipped" | "missed"; readonly runId: string; readonly reason: string }
  | { readonly kind: "busy"; readonly runId: string }
  | { readonly kind: "early"; readonly waitMs: number };

export type RunClaim =
  | { readonly kind: "claimed"; readonly jobId: string; readonly run: ClaimedRun }
  | { readonly kind: "waiting"; readonly reason: string; readonly waitMs: number }
  | { readonly kind: "taken"; readonly status: string }
  | { readonly kind: "ended"; readonly status: string; readonly reason: string }
  | { readonly kind: "unknown" };

export interface SlotRequest {
  readonly jobId: string;
  readonly slotAt: number;
  readonly trigger: "schedule" | "catch_up";
  readonly covered: readonly number[];
  readonly missed: readonly number[];
  readonly claimant: Claimant;
}

export interface Claimant {
  /** Name of the process, for people. */
  readonly instance: string;
  readonly leaseMs: number;
  /** Its own clock; only shown. */
  readonly clientNow: number;
}

/** Which slots have a row, and whose they are. */
export interface JobLedger {
  /** `isTick`: the job's own timer fired. Safe to repeat. */
  sync(
    jobs: readonly JobFacts[],
    isTick: boolean,
    signal: AbortSignal,
  ): Promise<{ readonly now: number; readonly states: readonly JobState[] }>;
  /** One of all who ask gets it. */
  claimSlot(request: SlotRequest, signal: AbortSignal): Promise<SlotClaim>;
  claimRun(runId: string, claimant: Claimant, signal: AbortSignal): Promise<RunClaim>;
  /** Writes slots down that nobody runs, at most 5,000. Safe to repeat. */
  recordMissed(jobId: string, slots: readonly number[], signal: AbortSignal): Promise<void>;
}

export type Heartbeat = "ok" | "cancel" | "stale";

export interface RunEnding {
  readonly status: "succeeded" | "failed" | "abandoned" | "cancelled";
  /** Code; absent when it succeeded. */
  readonly reason?: string;
  readonly errorCode?: string;
  /** At most 500 characters; never content. */
  readonly errorText?: string;
  readonly report?: Readonly<Record<string, unknown>>;
  /** Wait this long and try again, when attempts and the latest start allow it. */
  readonly retryMs?: number;
}

export type Finished =
  | { readonly kind: "finished" | "already"; readonly status: string }
  | { readonly kind: "queued"; readonly waitMs: number }
  | { readonly kind: "stale" };

type Fenced = Pick<ClaimedRun, "runId" | "fence">;

/** What the owner of a run may do to its row. Refused once somebody else claimed it. */
export interface RunLease {
  heartbeat(
    run: Fenced,
    leaseMs: number,
    progress: Readonly<Record<string, unknown>> | undefined,
    signal: AbortSignal,
  ): Promise<Heartbeat>;
  /** Safe to repeat. */
  finish(run: Fenced, ending: RunEnding, signal: AbortSignal): Promise<Finished>;
}

export interface SweptRun {
  readonly runId: string;
  readonly jobId: string;
}

export interface Swept {
  /** Their lease was over; they wait for another attempt. */
  readonly requeued: readonly SweptRun[];
  readonly abandoned: readonly SweptRun[];
  /** Waited too long. */
  readonly ended: number;
  /** Waiting runs that need a message. */
  readonly send: readonly SweptRun[];
}

export interface RunSweeper {
  sweep(signal: AbortSignal): Promise<Swept>;
}

/** Who changes something, and why; `requestId` is the id of the request. */
export interface JobChange {
  readonly who: string;
  readonly reason: string | undefined;
  readonly requestId?: string;
}

export type ManualStart =
  | { readonly kind: "started"; readonly runId: string }
  /** The key was used before, or a job that does not overlap has a run that works or waits. */
  | { readonly kind: "known" | "busy"; readonly runId: string; readonly status: string };

export type CancelRequest =
  | { readonly kind: "cancelled" | "requested" | "already" | "ended"; readonly status: string }
  | { readonly kind: "unknown" };

export interface EnabledChange {
  readonly kind: "changed" | "already";
  readonly isEnabled: boolean;
  readonly disabledAt: string | undefined;
  readonly disabledBy: string | undefined;
  readonly disabledReason: string | undefined;
}

/** What people do to jobs. Each change writes the audit log in its transaction. */
export interface JobControl {
  /** One key is one run. @throws AppError `job_unknown` */
  startManual(
    jobId: string,
    key: string | undefined,
    change: JobChange,
    signal: AbortSignal,
  ): Promise<ManualStart>;
  requestCancel(
    jobId: string,
    runId: string,
    change: JobChange,
    signal: AbortSignal,
  ): Promise<CancelRequest>;
  /** @throws AppError `job_unknown` */
  setEnabled(
    jobId: string,
    isEnabled: boolean,
    change: JobChange,
    signal: AbortSignal,
  ): Promise<EnabledChange>;
}

/** Wakes runs: messages carry ids only, the row is the truth. */
export interface JobQueue {
  send(message: JobRunMessage, delayMs: number, signal: AbortSignal): Promise<void>;
}

/** With `run`: claim that run. Without: plan what the job owes, as its timer would. */
export interface JobRunMessage {
  readonly v: 1;
  readonly job: string;
  readonly run?: string | undefined;
}
