import type { Clock } from "../kernel/clock.ts";
import type { Run } from "../kernel/run.ts";

const DAY_MS = 86_400_000;
/** Days of events one run looks at; the next run goes on. */
const DAYS_MAX = 400;
const ROWS_PER_CALL = 5000;
/** Calls for one kind of rows in one run; the next run goes on. */
const CALLS_MAX = 200;

/** How long rows are kept that explain what was, in days. Batches explain ledger rows and say what may be trimmed. */
const KEPT_DAYS = {
  observations: 90,
  runs: 90,
  lineages: 400,
  drifts: 400,
  repairs: 400,
  batches: 400,
  audit_findings: 800,
  audits: 800,
} as const;

export type PrunedKind = keyof typeof KEPT_DAYS;

export interface PrunedDay {
  readonly kind: "pruned" | "kept" | "absent";
  readonly events: number;
}

/** What is old, in Postgres. Every call may be repeated. */
export interface EventPruner {
  /** Days of events before `before`, earliest first. */
  days(before: string, limit: number, signal: AbortSignal): Promise<readonly string[]>;
  /** One transaction: sums are recorded, then the events are dropped. */
  pruneDay(day: string, before: string, signal: AbortSignal): Promise<PrunedDay>;
  /** Deletes up to `limit` old rows; returns how many. */
  pruneRows(kind: PrunedKind, before: number, limit: number, signal: AbortSignal): Promise<number>;
}

export interface PruneDeps {
  readonly clock: Clock;
  readonly eventPruner: EventPruner;
  readonly usageConfig: { readonly eventRetainDays: number };
}

/**
 * Drops the events of old days and deletes old rows, until everything is done or the time is over; false = some is left.
 * Safe to repeat and to be killed between any two calls: a day is recorded and dropped in one transaction.
 */
export async function pruneEvents(deps: PruneDeps, until: number, run: Run): Promise<boolean> {
  const { clock, eventPruner, usageConfig } = deps;
  const before = dateOf(clock.now() - usageConfig.eventRetainDays * DAY_MS);
  const pruned = { days: 0, events: 0, rows: 0 };
  for (const day of await eventPruner.days(before, DAYS_MAX, run.signal)) {
    if (clock.now() >= until) return false;
    const { kind, events } = await eventPruner.pruneDay(day, before, run.signal);
    if (kind === "pruned") pruned.days += 1;
    pruned.events += events;
    run.note({ prunedDays: pruned.days, prunedEvents: pruned.events });
  }
  for (const [kind, days] of Object.entries(KEPT_DAYS) as [PrunedKind, number][]) {
    const oldest = clock.now() - days * DAY_MS;
    for (let call = 0; call < CALLS_MAX; call += 1) {
      if (clock.now() >= until) return false;
      const rows = await eventPruner.pruneRows(kind, oldest, ROWS_PER_CALL, run.signal);
      pruned.rows += rows;
      run.note({ prunedRows: pruned.rows });
      if (rows < ROWS_PER_CALL) break;
    }
  }
  return true;
}

const dateOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
