import type { Run } from "../kernel/run.ts";
import { type DrainDeps, drainShard } from "./drain-shard.ts";
import type { ShardMessage } from "./shard-message.ts";

/** Of a busy shard: the other worker ends within its slice. */
const BUSY_DELAY_SECONDS = 20;
const BUSY_PARTS_MAX = 30;
const RELEASE_DEADLINE_MS = 2000;

export interface ShardReport {
  readonly runId: string;
  readonly shard: number;
  readonly state: "running" | "done" | "failed";
  readonly errorCode?: string;
}

export interface ShardReports {
  /** Idempotent: the numbers are recomputed from the batches of the run. */
  report(report: ShardReport, signal: AbortSignal): Promise<void>;
  /** The last report of a shard, and the end of its lease; a fence of null or of an older lease ends none. */
  finish(report: ShardReport, fence: string | null, signal: AbortSignal): Promise<void>;
}

export interface ShardQueue {
  send(messages: readonly ShardMessage[], delaySeconds: number, signal: AbortSignal): Promise<void>;
}

export interface ReconcileDeps extends DrainDeps {
  readonly shardReports: ShardReports;
  readonly shardQueue: ShardQueue;
  readonly usageConfig: DrainDeps["usageConfig"] & { readonly leaseTtlMs: number };
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
  const { shard, runId } = message;
  run.note({ shard, job: message.job, reconciliationRunId: runId, part: message.part });
  const { leaseTtlMs } = deps.usageConfig;
  const lease = await deps.usageLedger.lease(shard, run.id, leaseTtlMs, run.signal);
  if (lease === undefined && message.part < BUSY_PARTS_MAX) {
    run.note({ outcome: "busy" });
    return deps.shardQueue.send([nextPart(message)], BUSY_DELAY_SECONDS, run.signal);
  }
  const held = lease ?? { fence: null, cursor: await deps.usageLedger.cursor(shard, run.signal) };
  const { fence } = held;
  const report = () => deps.shardReports.report({ runId, shard, state: "running" }, run.signal);
  try {
    const { kind } = await drainShard(deps, { shard, runId, lease: held, report }, run);
    run.note({ outcome: kind });
    if (kind !== "sliced") {
      return await deps.shardReports.finish({ runId, shard, state: "done" }, fence, run.signal);
    }
  } catch (error) {
    await release(deps, shard, fence);
    throw error;
  }
  await release(deps, shard, fence);
  return deps.shardQueue.send([nextPart(message)], 0, run.signal);
}

const nextPart = (message: ShardMessage): ShardMessage => ({ ...message, part: message.part + 1 });

/**
 * Also after a failure, so that the next attempt need not wait for the lease to end. A release that fails costs that
 * wait and nothing else, and the run may be over its deadline: it has a short one of its own.
 */
async function release(deps: ReconcileDeps, shard: number, fence: string | null): Promise<void> {
  if (fence === null) return;
  const signal = AbortSignal.timeout(RELEASE_DEADLINE_MS);
  await deps.usageLedger.release(shard, fence, signal).catch(() => {});
}
