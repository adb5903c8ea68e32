import type { Clock } from "../../kernel/clock.ts";
import type { Run } from "../../kernel/run.ts";
import type { LegacyPosition } from "./legacy-message.ts";
import { type PendingPlan, planPending } from "./plan-pending.ts";

/** The set of uses whose database write failed, in Redis. */
export interface PendingSet {
  /** One page; members may come twice, also within it. The scan ends with the cursor "0". */
  scan(cursor: string, signal: AbortSignal): Promise<PendingPage>;
  /** Removes exactly these; says how many were still there. */
  remove(members: readonly string[], signal: AbortSignal): Promise<number>;
  size(signal: AbortSignal): Promise<number>;
}

export interface PendingPage {
  readonly cursor: string;
  readonly members: readonly string[];
}

export interface PendingLedger {
  /** One transaction: events, ledger, totals, quarantine and the numbers of the run. A use that is known is a duplicate. */
  book(runId: string, plan: PendingPlan, signal: AbortSignal): Promise<PendingBooked>;
}

export interface PendingBooked {
  readonly applied: number;
  readonly dup: number;
  /** Set aside now and not before. */
  readonly bad: number;
  readonly tokens: string;
}

export interface DrainPendingDeps {
  readonly clock: Clock;
  readonly pendingSet: PendingSet;
  readonly pendingLedger: PendingLedger;
}

/**
 * One page of the pending set. Nothing is claimed: a crash before the removal brings the same members back, and the
 * ids of their uses absorb them. Members are removed only after Postgres has them.
 */
export async function drainPendingPage(
  deps: DrainPendingDeps,
  runId: string,
  cursor: string,
  run: Run,
): Promise<LegacyPosition> {
  const page = await deps.pendingSet.scan(cursor, run.signal);
  const plan = planPending(page.members, deps.clock.now());
  if (plan.uses.length + plan.bad.length > 0) {
    const booked = await deps.pendingLedger.book(runId, plan, run.signal);
    const removed = await deps.pendingSet.remove(plan.removable, run.signal);
    run.note({ lastPage: { ...booked, removed } });
  }
  return page.cursor === "0"
    ? { phase: "discover", cursor: "0" }
    : { phase: "pending", cursor: page.cursor };
}
