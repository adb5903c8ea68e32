import type { Clock } from "../kernel/clock.ts";
import { type AppError, transient } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { DecodedBatch } from "./log-entry.ts";
import {
  type Cursor,
  type Cut,
  cutOff,
  type ForkCause,
  type LogRead,
  planStep,
  type Step,
} from "./plan-step.ts";

/** Bounds the loop of one message even if producers write faster than we book: the continuation goes on. */
const BATCHES_MAX = 10_000;
const REPORT_EVERY_BATCHES = 10;

/** The log of one shard, in Redis. */
export interface UsageLog {
  /** Head and a page of entries, in one instant. */
  read(page: LogPage, signal: AbortSignal): Promise<LogRead>;
  /** Compare-and-swap to a new lineage; undefined = the read came from a replica that lags. */
  startLineage(
    shard: number,
    seen: string,
    cursor: Cursor,
    mode: "behind" | "anchor",
    signal: AbortSignal,
  ): Promise<string | undefined>;
  /** How a lineage ended in Redis; zeros when nothing of it survived. */
  endOf(shard: number, inc: string, signal: AbortSignal): Promise<SurvivingPart>;
  /** Removes entries before `n`; false when the lineage is another one and nothing was removed. */
  trim(shard: number, inc: string, n: string, signal: AbortSignal): Promise<boolean>;
}

/** Up to `max` entries after the cursor, starting at the entry of the cursor itself. */
export interface LogPage {
  readonly shard: number;
  readonly cursor: Cursor;
  readonly max: number;
  /** Number of the last entry wanted; absent = to the end. */
  readonly upTo?: string | undefined;
}

export interface SurvivingPart {
  readonly n: string;
  readonly cum: string;
}

/** A fence is the number of the lease; null = without one. */
export interface Lease {
  readonly fence: string | null;
  readonly cursor: Cursor;
}

export type Applied =
  | {
      readonly kind: "applied";
      readonly applied: number;
      readonly dup: number;
      readonly tokens: string;
      /** Entries up to here may be trimmed, or null. */
      readonly trim: string | null;
    }
  | { readonly kind: "stale" }
  | { readonly kind: "fenced" };

/** Cursor, events, ledger and totals of the shards, in Postgres. */
export interface UsageLedger {
  /** Saves wasted reads; correctness is the compare-and-swap in `book`. Undefined = another worker holds it. */
  lease(
    shard: number,
    owner: string,
    ttlMs: number,
    signal: AbortSignal,
  ): Promise<Lease | undefined>;
  release(shard: number, fence: string, signal: AbortSignal): Promise<void>;
  cursor(shard: number, signal: AbortSignal): Promise<Cursor>;
  /** One transaction: events, ledger, totals, quarantine, gaps and the cursor. Stale and fenced change nothing. */
  book(booking: Booking, signal: AbortSignal): Promise<Applied>;
  /** Ends the lineage of the cursor and points it at the start of the new one. False = somebody else was faster. */
  fork(fork: Fork, signal: AbortSignal): Promise<boolean>;
  markTrimmed(shard: number, inc: string, n: string, signal: AbortSignal): Promise<void>;
}

export interface Booking {
  readonly shard: number;
  readonly fence: string | null;
  readonly from: Cursor;
  readonly batch: DecodedBatch;
  readonly worker: string;
  readonly runId: string | null;
  readonly retainHours: number;
}

export interface Fork {
  readonly shard: number;
  readonly oldInc: string;
  readonly newInc: string;
  readonly cause: ForkCause;
  readonly surviving: SurvivingPart;
}

export interface DrainDeps {
  readonly clock: Clock;
  readonly usageLog: UsageLog;
  readonly usageLedger: UsageLedger;
  readonly usageConfig: {
    readonly batchMax: number;
    readonly sliceMs: number;
    readonly retainHours: number;
  };
}

export interface DrainOrder {
  readonly shard: number;
  readonly runId: string;
  readonly lease: Lease;
  /** Book exactly up to here; absent = to the end of the log. */
  readonly cut?: Cut | undefined;
  /** Called now and then while batches are booked. */
  readonly report?: (() => Promise<void>) | undefined;
}

export interface Drained {
  /**
   * - `drained`: everything is booked, or everything up to the cut
   * - `passed`: the cut is void, because the cursor is beyond it or the log is another one by now
   * - `sliced`: the time is up and there is more
   * - `fenced`: another worker holds the lease; nothing more was changed
   */
  readonly kind: "drained" | "passed" | "sliced" | "fenced";
  readonly cursor: Cursor;
}

/**
 * Books what follows the cursor of one shard. Safe to run twice, concurrently, and to be killed between any two lines:
 * nothing is claimed or acknowledged in Redis, and the cursor moves in the same transaction as the ledger rows.
 */
export async function drainShard(deps: DrainDeps, order: DrainOrder, run: Run): Promise<Drained> {
  const { shard, lease, cut } = order;
  const { sliceMs } = deps.usageConfig;
  const until = deps.clock.now() + sliceMs;
  const done = { batches: 0, applied: 0, dup: 0, bad: 0, forks: 0, stale: 0 };
  let cursor = lease.cursor;
  let ahead: Promise<Looked> | undefined;
  for (let turn = 0; turn < BATCHES_MAX && deps.clock.now() < until; turn += 1) {
    if (isPast(cursor, cut)) return { kind: "passed", cursor };
    const looked = await (ahead ?? look(deps, order, cursor, run));
    ahead = undefined;
    if (looked === "passed") return { kind: "passed", cursor };
    const { read, step } = looked;
    run.note(done);
    if (step.kind === "idle") return { kind: "drained", cursor };
    if (step.kind === "fork") {
      cursor = await followLineage(deps, shard, cursor, read, step.cause, run);
      done.forks += 1;
      continue;
    }
    const next = { inc: cursor.inc, ...step.batch.end };
    if (!step.isLast) ahead = lookAhead(deps, order, next, run);
    const result = await book(deps, order, cursor, step.batch, run);
    if (result.kind === "fenced") return { kind: "fenced", cursor };
    if (result.kind === "stale") {
      cursor = await deps.usageLedger.cursor(shard, run.signal);
      ahead = undefined;
      done.stale += 1;
      continue;
    }
    cursor = next;
    done.batches += 1;
    done.applied += result.applied;
    done.dup += result.dup;
    done.bad += step.batch.bad.length;
    run.note(done);
    if (result.trim !== null) await trim(deps, shard, cursor.inc, result.trim, run);
    if (step.isLast && (cut === undefined || cursor.n === cut.n))
      return { kind: "drained", cursor };
    if (done.batches % REPORT_EVERY_BATCHES === 0) await order.report?.();
  }
  return { kind: "sliced", cursor };
}

type Looked = { readonly read: LogRead; readonly step: Step } | "passed";

async function look(
  deps: DrainDeps,
  { shard, cut }: DrainOrder,
  cursor: Cursor,
  run: Run,
): Promise<Looked> {
  const { batchMax } = deps.usageConfig;
  const page = { shard, cursor, max: batchMax, upTo: cut?.n };
  const whole = await deps.usageLog.read(page, run.signal);
  const read = cut === undefined ? whole : cutOff(whole, cut);
  return read === undefined ? "passed" : { read, step: planStep(cursor, read, batchMax) };
}

/**
 * At what follows a batch, while that batch is booked. No guarantee rests on the order: the cursor is compared when the
 * next batch is booked, as after any wait. Whoever takes the answer sees its failure; when nobody does, nothing failed.
 */
function lookAhead(deps: DrainDeps, order: DrainOrder, cursor: Cursor, run: Run): Promise<Looked> {
  const looked = look(deps, order, cursor, run);
  looked.catch(() => {});
  return looked;
}

const isPast = (cursor: Cursor, cut: Cut | undefined): boolean =>
  cut !== undefined && cursor.inc === cut.inc && BigInt(cursor.n) > BigInt(cut.n);

function book(
  deps: DrainDeps,
  { shard, runId, lease }: DrainOrder,
  from: Cursor,
  batch: DecodedBatch,
  run: Run,
): Promise<Applied> {
  const { retainHours } = deps.usageConfig;
  const { fence } = lease;
  const booking = { shard, fence, from, batch, worker: run.id, runId, retainHours };
  return deps.usageLedger.book(booking, run.signal);
}

/** A crash before `markTrimmed` trims the same entries again, which removes nothing. */
async function trim(
  deps: DrainDeps,
  shard: number,
  inc: string,
  n: string,
  run: Run,
): Promise<void> {
  const isTrimmed = await deps.usageLog.trim(shard, inc, n, run.signal);
  if (isTrimmed) await deps.usageLedger.markTrimmed(shard, inc, n, run.signal);
}

/**
 * Redis is not the log the cursor points into: flushed, restored, failed over, or used for the first time. The cursor
 * goes to the start of the new lineage, everything Redis holds is read again, and event ids absorb the overlap. A
 * crash between the two writes shows up as `lineage_changed` in the next run.
 */
async function followLineage(
  deps: DrainDeps,
  shard: number,
  cursor: Cursor,
  read: LogRead,
  cause: ForkCause,
  run: Run,
): Promise<Cursor> {
  const newInc = await lineageAfter(deps, shard, cursor, read, cause, run.signal);
  if (newInc === cursor.inc) return cursor; // Redis was restored since the read, and is our log again: look again
  const surviving = await survivingPart(deps, shard, cursor, read, cause, run.signal);
  const fork = { shard, oldInc: cursor.inc, newInc, cause, surviving };
  const isForked = await deps.usageLedger.fork(fork, run.signal);
  if (cause !== "first") run.log.warn("usage_lineage_ended", { shard, cause, isForked });
  if (!isForked) return deps.usageLedger.cursor(shard, run.signal);
  return { inc: newInc, n: "0", cum: null, count: null, anchor: null };
}

async function lineageAfter(
  deps: DrainDeps,
  shard: number,
  cursor: Cursor,
  read: LogRead,
  cause: ForkCause,
  signal: AbortSignal,
): Promise<string> {
  if (cause === "first" || cause === "lineage_changed") return read.inc;
  const mode = cause === "anchor_mismatch" ? "anchor" : "behind";
  const started = await deps.usageLog.startLineage(shard, read.inc, cursor, mode, signal);
  if (started === undefined) throw replicaStale(shard);
  return started;
}

const replicaStale = (shard: number): AppError => transient("usage_replica_stale", { shard });

async function survivingPart(
  deps: DrainDeps,
  shard: number,
  cursor: Cursor,
  read: LogRead,
  cause: ForkCause,
  signal: AbortSignal,
): Promise<SurvivingPart> {
  if (cause === "redis_rewound") return { n: read.n, cum: read.cum };
  // The histories parted somewhere before the cursor, and what was booked up to there is safe anyway.
  if (cause === "anchor_mismatch") return { n: "0", cum: "0" };
  if (cursor.inc === "") return { n: "0", cum: "0" };
  return deps.usageLog.endOf(shard, cursor.inc, signal);
}
