import type { Clock } from "../kernel/clock.ts";
import { type AppError, transient } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { DecodedBatch } from "./log-entry.ts";
import { type Cursor, type ForkCause, type LogRead, planStep } from "./plan-step.ts";
import type { ShardMessage } from "./shard-message.ts";

/** Bounds the loop of one message even if producers write faster than we book: the continuation goes on. */
const BATCHES_MAX = 10_000;
/** Of a busy shard: the other worker ends within its slice. */
const BUSY_DELAY_SECONDS = 20;
const BUSY_PARTS_MAX = 30;
const REPORT_EVERY_BATCHES = 10;

/** The log of one shard, in Redis. */
export interface UsageLog {
  /** Head and up to `max` entries after the cursor, starting at the entry of the cursor itself, in one instant. */
  read(shard: number, cursor: Cursor, max: number, signal: AbortSignal): Promise<LogRead>;
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

export interface ShardReport {
  readonly runId: string;
  readonly shard: number;
  readonly state: "running" | "done" | "failed";
  readonly errorCode?: string;
}

export interface ShardReports {
  /** Idempotent: the numbers are recomputed from the batches of the run. */
  report(report: ShardReport, signal: AbortSignal): Promise<void>;
}

export interface ShardQueue {
  send(messages: readonly ShardMessage[], delaySeconds: number, signal: AbortSignal): Promise<void>;
}

export interface ReconcileDeps {
  readonly clock: Clock;
  readonly usageLog: UsageLog;
  readonly usageLedger: UsageLedger;
  readonly shardReports: ShardReports;
  readonly shardQueue: ShardQueue;
  readonly usageConfig: {
    readonly batchMax: number;
    readonly sliceMs: number;
    readonly leaseTtlMs: number;
    readonly retainHours: number;
  };
}

/**
 * Books everything new of one shard. Safe to run twice, concurrently, and to be killed between any two lines: nothing
 * is claimed or acknowledged in Redis, and the cursor moves in the same transaction as the ledger rows.
 */
export async function reconcileShard(
  deps: ReconcileDeps,
  message: ShardMessage,
  run: Run,
): Promise<void> {
  const { shard } = message;
  run.note({ shard, job: message.job, reconciliationRunId: message.runId, part: message.part });
  const { leaseTtlMs } = deps.usageConfig;
  const lease = await deps.usageLedger.lease(shard, run.id, leaseTtlMs, run.signal);
  if (lease === undefined && message.part < BUSY_PARTS_MAX) {
    run.note({ outcome: "busy" });
    return deps.shardQueue.send([nextPart(message)], BUSY_DELAY_SECONDS, run.signal);
  }
  const held = lease ?? { fence: null, cursor: await deps.usageLedger.cursor(shard, run.signal) };
  const outcome = await drainShard(deps, message, held, run);
  run.note({ outcome });
  if (held.fence !== null) await deps.usageLedger.release(shard, held.fence, run.signal);
  if (outcome === "sliced") return deps.shardQueue.send([nextPart(message)], 0, run.signal);
  await deps.shardReports.report({ runId: message.runId, shard, state: "done" }, run.signal);
}

const nextPart = (message: ShardMessage): ShardMessage => ({ ...message, part: message.part + 1 });

type Drained = "drained" | "sliced" | "fenced";

async function drainShard(
  deps: ReconcileDeps,
  { shard, runId }: ShardMessage,
  lease: Lease,
  run: Run,
): Promise<Drained> {
  const until = deps.clock.now() + deps.usageConfig.sliceMs;
  const done = { batches: 0, applied: 0, dup: 0, bad: 0, forks: 0, stale: 0 };
  let cursor = lease.cursor;
  for (let turn = 0; turn < BATCHES_MAX && deps.clock.now() < until; turn += 1) {
    const { batchMax } = deps.usageConfig;
    const read = await deps.usageLog.read(shard, cursor, batchMax, run.signal);
    const step = planStep(cursor, read, batchMax);
    run.note(done);
    if (step.kind === "idle") return "drained";
    if (step.kind === "fork") {
      cursor = await followLineage(deps, shard, cursor, read, step.cause, run);
      done.forks += 1;
      continue;
    }
    const result = await book(deps, shard, runId, lease.fence, cursor, step.batch, run);
    if (result.kind === "fenced") return "fenced";
    if (result.kind === "stale") {
      cursor = await deps.usageLedger.cursor(shard, run.signal);
      done.stale += 1;
      continue;
    }
    cursor = { inc: cursor.inc, ...step.batch.end };
    done.batches += 1;
    done.applied += result.applied;
    done.dup += result.dup;
    done.bad += step.batch.bad.length;
    run.note(done);
    if (result.trim !== null) await trim(deps, shard, cursor.inc, result.trim, run);
    if (step.isLast) return "drained";
    if (done.batches % REPORT_EVERY_BATCHES === 1) {
      await deps.shardReports.report({ runId, shard, state: "running" }, run.signal);
    }
  }
  return "sliced";
}

function book(
  deps: ReconcileDeps,
  shard: number,
  runId: string,
  fence: string | null,
  from: Cursor,
  batch: DecodedBatch,
  run: Run,
): Promise<Applied> {
  const { retainHours } = deps.usageConfig;
  const booking = { shard, fence, from, batch, worker: run.id, runId, retainHours };
  return deps.usageLedger.book(booking, run.signal);
}

/** A crash before `markTrimmed` trims the same entries again, which removes nothing. */
async function trim(
  deps: Pick<ReconcileDeps, "usageLog" | "usageLedger">,
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
  deps: ReconcileDeps,
  shard: number,
  cursor: Cursor,
  read: LogRead,
  cause: ForkCause,
  run: Run,
): Promise<Cursor> {
  const newInc = await lineageAfter(deps, shard, cursor, read, cause, run.signal);
  const surviving = await survivingPart(deps, shard, cursor, read, cause, run.signal);
  const fork = { shard, oldInc: cursor.inc, newInc, cause, surviving };
  const isForked = await deps.usageLedger.fork(fork, run.signal);
  if (cause !== "first") run.log.warn("usage_lineage_ended", { shard, cause, isForked });
  if (!isForked) return deps.usageLedger.cursor(shard, run.signal);
  return { inc: newInc, n: "0", cum: null, count: null, anchor: null };
}

async function lineageAfter(
  deps: ReconcileDeps,
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
  deps: ReconcileDeps,
  shard: number,
  cursor: Cursor,
  read: LogRead,
  cause: ForkCause,
  signal: AbortSignal,
): Promise<SurvivingPart> {
  if (cause === "redis_rewound" || cause === "anchor_mismatch") return { n: read.n, cum: read.cum };
  if (cursor.inc === "") return { n: "0", cum: "0" };
  return deps.usageLog.endOf(shard, cursor.inc, signal);
}
