/** What the ledger and the calendar know about a job at one moment. Instants in milliseconds. */
export interface WhyFacts {
  readonly now: number;
  readonly isEnabled: boolean;
  readonly disabledBy?: string | undefined;
  readonly disabledReason?: string | undefined;
  readonly disabledAt?: number | undefined;
  /** The run that works now. */
  readonly running?: { readonly runId: string; readonly startedAt: number } | undefined;
  /** The newest run that ended, whatever way. */
  readonly last?:
    | {
        readonly runId: string;
        readonly status: string;
        readonly endedAt: number;
        readonly reason?: string | undefined;
        readonly errorCode?: string | undefined;
        /** When it is tried again. */
        readonly nextAttemptAt?: number | undefined;
      }
    | undefined;
  /** The latest slot that is past, and whether the ledger has its row. */
  readonly lastSlotAt?: number | undefined;
  readonly isLastSlotKnown: boolean;
  /** Slots before this are none that anybody could have run. */
  readonly knownSince?: number | undefined;
  readonly nextSlotAt?: number | undefined;
}

export const WHY_REASONS = [
  "database_unavailable",
  "disabled",
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
    whyRetry(facts) ??
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
function whyBusy({ running, lastSlotAt, now }: WhyFacts): Why | undefined {
  if (running === undefined) return undefined;
  const { runId, startedAt } = running;
  const isOver = lastSlotAt !== undefined && lastSlotAt > startedAt;
  if (!isOver)
    return {
      reason: "running",
      text: `It is running, for ${seconds(now - startedAt)} s so far.`,
      ...at(startedAt),
      runId,
    };
  return {
    reason: "overlapping",
    text: `A run that started before the slot still works; it has been running for ${seconds(now - startedAt)} s.`,
    ...at(lastSlotAt),
    runId,
    runbook: RUNBOOK,
  };
}

function whyRetry({ last, now }: WhyFacts): Why | undefined {
  if (last?.nextAttemptAt === undefined || !FAILED.has(last.status)) return undefined;
  const when = last.nextAttemptAt > now ? "is tried again" : "is about to be tried again";
  const text = `The last attempt ended with ${last.errorCode ?? last.reason ?? last.status} and ${when}.`;
  return { reason: "waiting_retry", text, ...at(last.nextAttemptAt), runId: last.runId };
}

/** A slot without a row: nobody fired the timer, or nobody could write. */
function whySilent({ lastSlotAt, isLastSlotKnown, knownSince, now }: WhyFacts): Why | undefined {
  if (lastSlotAt === undefined || isLastSlotKnown) return undefined;
  if (knownSince !== undefined && lastSlotAt < knownSince) return undefined;
  if (now - lastSlotAt < STARTING_MS)
    return { reason: "starting", text: "Its slot just began; it is starting.", ...at(lastSlotAt) };
  return {
    reason: "no_instance",
    text: "Its slot is past and no instance took it: the timer is silent.",
    ...at(lastSlotAt),
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
