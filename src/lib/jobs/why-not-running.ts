/** What the ledger and the calendar know about a job at one moment. Instants in milliseconds. */
export interface WhyFacts {
  readonly now: number;
  readonly isEnabled: boolean;
  readonly disabledBy?: string | undefined;
  readonly disabledReason?: string | undefined;
  readonly disabledAt?: number | undefined;
  /** The run that works now, or that somebody claimed and then fell silent about. */
  readonly running?:
    | { readonly runId: string; readonly startedAt: number; readonly leaseUntil: number }
    | undefined;
  /** A run that waits to start: for another attempt, or because somebody just asked for it. */
  readonly waiting?:
    | {
        readonly runId: string;
        readonly startAfter: number | undefined;
        readonly reason: string | undefined;
        readonly isRetry: boolean;
        readonly errorCode: string | undefined;
      }
    | undefined;
  /** The newest run that ended, whatever way. */
  readonly last?:
    | {
        readonly runId: string;
        readonly status: string;
        readonly endedAt: number;
        readonly reason?: string | undefined;
        readonly errorCode?: string | undefined;
      }
    | undefined;
  /** The ledger has heard of the job: some instance with this version ran. */
  readonly isKnown: boolean;
  /** The oldest slot that is past and has no row. */
  readonly openSlotAt?: number | undefined;
  /** The first slot after the running run started, when that is past. */
  readonly slotDuringRunAt?: number | undefined;
  readonly nextSlotAt?: number | undefined;
}

export const WHY_REASONS = [
  "database_unavailable",
  "disabled",
  "worker_lost",
  "overlapping",
  "running",
  "waiting_retry",
  "starting",
  "no_instance",
  "last_failed",
  "last_missed",
  "not_due",
  "never_due",
] as const;
export type WhyReason = (typeof WHY_REASONS)[number];

export interface Why {
  readonly reason: WhyReason;
  /** One sentence. */
  readonly text: string;
  /** The instant that the sentence is about. */
  readonly at?: string;
  readonly runId?: string;
  /** What to do, or nothing. */
  readonly runbook?: string;
}

/** A cold start and the host's take-over of its lease: a slot that is younger may still start. */
export const STARTING_MS = 2 * 60_000;

const RUNBOOK = "docs/operations/a-job-did-not-run.md";
const FAILED = new Set(["failed", "abandoned"]);

/**
 * Exactly one answer to "why is it not running?": the first that holds, from what stops every run to what is as it should be.
 *
 * @param facts undefined = the database does not answer
 */
export function whyNotRunning(facts: WhyFacts | undefined): Why {
  if (facts === undefined)
    return {
      reason: "database_unavailable",
      text: "The database does not answer; no run can be claimed without it.",
      runbook: "docs/operations/a-component-is-unavailable.md",
    };
  return (
    whyDisabled(facts) ??
    whyBusy(facts) ??
    whyWaiting(facts) ??
    whySilent(facts) ??
    whyLast(facts) ??
    whyNotDue(facts)
  );
}

function whyDisabled(facts: WhyFacts): Why | undefined {
  if (facts.isEnabled) return undefined;
  const { disabledBy = "somebody", disabledReason, disabledAt } = facts;
  const because = disabledReason === undefined ? "" : `: ${disabledReason}`;
  return { reason: "disabled", text: `${disabledBy} disabled it${because}.`, ...at(disabledAt) };
}

/** A run that works through the next slot keeps that from starting. */
function whyBusy({ running, waiting, slotDuringRunAt, now }: WhyFacts): Why | undefined {
  if (running === undefined) return undefined;
  const { runId, startedAt, leaseUntil } = running;
  if (leaseUntil <= now)
    return {
      reason: "worker_lost",
      text: "The instance that ran it fell silent; another takes the run over, or it is abandoned.",
      ...at(leaseUntil),
      runId,
      runbook: RUNBOOK,
    };
  if (slotDuringRunAt === undefined && waiting?.reason !== "overlap")
    return {
      reason: "running",
      text: `It is running, for ${seconds(now - startedAt)} s so far.`,
      ...at(startedAt),
      runId,
    };
  return {
    reason: "overlapping",
    text: `A run that started before still works; it has been running for ${seconds(now - startedAt)} s.`,
    ...at(slotDuringRunAt ?? startedAt),
    runId,
    runbook: RUNBOOK,
  };
}

function whyWaiting({ waiting }: WhyFacts): Why | undefined {
  if (waiting === undefined) return undefined;
  const { runId, startAfter, isRetry, errorCode, reason } = waiting;
  const common = { ...at(startAfter), runId };
  if (!isRetry)
    return { reason: "starting", text: "A run was asked for; it is starting.", ...common };
  const text = `The last attempt ended with ${errorCode ?? reason ?? "a failure"}; another follows.`;
  return { reason: "waiting_retry", text, ...common };
}

/** A slot without a row: nobody fired the timer, or nobody could write. */
function whySilent({ isKnown, openSlotAt, now }: WhyFacts): Why | undefined {
  if (!isKnown)
    return {
      reason: "no_instance",
      text: "No instance of this version has fired a timer yet.",
      runbook: RUNBOOK,
    };
  if (openSlotAt === undefined) return undefined;
  if (now - openSlotAt < STARTING_MS)
    return { reason: "starting", text: "Its slot just began; it is starting.", ...at(openSlotAt) };
  return {
    reason: "no_instance",
    text: "Its slot is past and no instance took it: the timer is silent.",
    ...at(openSlotAt),
    runbook: RUNBOOK,
  };
}

function whyLast({ last }: WhyFacts): Why | undefined {
  if (last === undefined) return undefined;
  const { runId, endedAt, status } = last;
  const cause = last.errorCode ?? last.reason ?? status;
  const common = { ...at(endedAt), runId, runbook: RUNBOOK };
  if (FAILED.has(status))
    return { reason: "last_failed", text: `Its last run ended with ${cause}.`, ...common };
  if (status === "missed")
    return { reason: "last_missed", text: `Its last slot was missed: ${cause}.`, ...common };
  return undefined;
}

function whyNotDue({ nextSlotAt }: WhyFacts): Why {
  if (nextSlotAt === undefined)
    return { reason: "never_due", text: "Its schedule has no slot any more." };
  return {
    reason: "not_due",
    text: "It is not due; it waits for its next slot.",
    ...at(nextSlotAt),
  };
}

const at = (ms: number | undefined): { at?: string } =>
  ms === undefined ? {} : { at: new Date(ms).toISOString() };

const seconds = (ms: number): number => Math.max(0, Math.round(ms / 1000));
