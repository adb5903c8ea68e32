import type { Clock } from "../kernel/clock.ts";
import { AppError, toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import { type AuditStartDeps, startAudit } from "./audit-start.ts";
import type { ShardHeads } from "./dispatch-shards.ts";
import type { ShardHead } from "./plan-shards.ts";

/** Shards whose totals one call seals: about 250,000 rows of a million tenants. */
const SEAL_SHARDS = 64;
/** More calls than any number of shards needs. */
const SEAL_CALLS_MAX = 300;

/** What a person may overrule. That every log was read past the barrier cannot be overruled. */
export type Overruled = "grace" | "open_gap" | "open_quarantine";

/** One reason why a month stays open, with ids; see `usage_period_held_by`. */
export interface Held {
  readonly reason: "shards_behind" | Overruled;
  readonly [detail: string]: unknown;
}

export type CloseOutcome =
  | { readonly kind: "closed"; readonly closedAt: string; readonly isNew: boolean }
  | { readonly kind: "closing"; readonly heldBy: readonly Held[] }
  /** The month is not over. */
  | { readonly kind: "running"; readonly until: string };

export interface CloseOrder {
  readonly period: number;
  readonly who: string;
  /** Why, when a person asks. */
  readonly reason?: string | undefined;
  readonly despite: readonly Overruled[];
}

export interface CloseCall extends CloseOrder {
  readonly heads: readonly ShardHead[];
  readonly graceHours: number;
  readonly now: number;
}

/** The months, in Postgres: one call, one transaction. */
export interface PeriodLedger {
  /** Months that are over and not closed, and closed ones that are not sealed, earliest first. */
  due(now: number, signal: AbortSignal): Promise<readonly number[]>;
  close(call: CloseCall, signal: AbortSignal): Promise<CloseOutcome>;
  /** Seals the next shards. False = more are left. */
  seal(period: number, shards: number, signal: AbortSignal): Promise<boolean>;
}

export interface ClosePeriodDeps extends AuditStartDeps {
  readonly clock: Clock;
  readonly shardHeads: ShardHeads;
  readonly periodLedger: PeriodLedger;
  readonly usageConfig: { readonly periodGraceHours: number };
}

/**
 * Closes a month, or says what holds it. Safe to repeat: barriers are noted once, a closed month stays as it is, and the
 * seal goes on where it ended. A month is closed before it is sealed, so a crash between the two leaves a closed month
 * that the next run seals.
 */
export async function closePeriod(
  deps: ClosePeriodDeps,
  order: CloseOrder,
  run: Run,
): Promise<CloseOutcome> {
  const now = deps.clock.now(); // before the heads: what they show is no older than the end of the grace
  const heads = await deps.shardHeads.readHeads(run.signal);
  return closeAt(deps, order, { now, heads }, run);
}

/**
 * Closes every month whose time has come. Months do not depend on each other: one that fails does not keep the others
 * open, and its error is thrown at the end.
 */
export async function closeDuePeriods(deps: ClosePeriodDeps, run: Run): Promise<void> {
  const now = deps.clock.now();
  const due = await deps.periodLedger.due(now, run.signal);
  if (due.length === 0) return;
  const heads = await deps.shardHeads.readHeads(run.signal);
  const failures: unknown[] = [];
  const closed: number[] = [];
  for (const period of due) {
    try {
      const order = { period, who: run.name, despite: [] };
      const outcome = await closeAt(deps, order, { now, heads }, run);
      if (outcome.kind === "closed") closed.push(period);
    } catch (error) {
      run.log.warn("usage_period_not_closed", { period, code: toFailure(error).code });
      failures.push(error);
    }
  }
  run.note({ periodsDue: due.length, periodsClosed: closed });
  if (failures.length > 0) throw failures[0];
}

interface Instant {
  readonly now: number;
  readonly heads: readonly ShardHead[];
}

async function closeAt(
  deps: ClosePeriodDeps,
  order: CloseOrder,
  { now, heads }: Instant,
  run: Run,
): Promise<CloseOutcome> {
  const { periodGraceHours: graceHours } = deps.usageConfig;
  const call = { ...order, heads, graceHours, now };
  const outcome = await deps.periodLedger.close(call, run.signal);
  if (outcome.kind !== "closed") return outcome;
  const { period } = order;
  if (outcome.isNew) run.log.info("usage_period_closed", { period, who: order.who });
  // Before the seal: what is not sealed comes here again, so this is started whatever happens in between.
  const audit = { key: `close:${period}`, period, trigger: "close", who: order.who } as const;
  await startAudit(deps, audit, run);
  await sealPeriod(deps.periodLedger, period, run.signal);
  return outcome;
}

async function sealPeriod(
  ledger: PeriodLedger,
  period: number,
  signal: AbortSignal,
): Promise<void> {
  for (let call = 0; call < SEAL_CALLS_MAX; call += 1) {
    if (await ledger.seal(period, SEAL_SHARDS, signal)) return;
  }
  throw new AppError("bug", "invariant_broken", { details: { what: "a seal that never ends" } });
}
