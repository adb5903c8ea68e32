import { randomUUID } from "node:crypto";
import type { Run } from "../kernel/run.ts";
import type { ConsolidationQueue } from "./consolidate-shard.ts";
import type { RunLedger, ShardHeads } from "./dispatch-shards.ts";
import { shardsWithCounters } from "./plan-consolidation.ts";

const JOB = "weekly_consolidation";

export interface ConsolidationDispatchDeps {
  readonly shardHeads: ShardHeads;
  readonly runLedger: Pick<RunLedger, "readCursors" | "startRun">;
  readonly consolidationQueue: ConsolidationQueue;
  readonly usageConfig: { readonly retainHours: number; readonly isTrackingEnabled: boolean };
}

export interface ConsolidationOrder {
  readonly trigger: "timer" | "manual";
  /** False = a dry run: findings are written down and nothing else changes. */
  readonly apply: boolean;
  /** Absent = every shard that has counters or should have some. */
  readonly shards?: readonly number[] | undefined;
}

export interface PlannedConsolidation {
  readonly runId: string;
  readonly shards: number;
}

/**
 * Plans one consolidation: one message for each shard; their queue does the work. Safe to run twice: what one run
 * corrected, the other finds equal. A crash before the messages are sent leaves a run that stays "planned".
 */
export async function dispatchConsolidation(
  deps: ConsolidationDispatchDeps,
  { trigger, apply, shards: wanted }: ConsolidationOrder,
  run: Run,
): Promise<PlannedConsolidation> {
  const shards = wanted ?? (await findShards(deps, run.signal));
  const runId = randomUUID();
  run.note({ consolidationRunId: runId, shards: shards.length, apply });
  const { isTrackingEnabled } = deps.usageConfig;
  const planned = shards.map((shard) => ({ shard, pending: 0 }));
  const start = { runId, job: JOB, trigger, shards: planned, isTrackingEnabled } as const;
  await deps.runLedger.startRun(start, run.signal);
  const messages = shards.map(
    (shard) => ({ v: 1, job: JOB, runId, shard, apply, part: 0, busy: 0 }) as const,
  );
  await deps.consolidationQueue.send(messages, 0, run.signal);
  return { runId, shards: shards.length };
}

async function findShards(deps: ConsolidationDispatchDeps, signal: AbortSignal): Promise<number[]> {
  const [heads, cursors] = await Promise.all([
    deps.shardHeads.readHeads(signal),
    deps.runLedger.readCursors(deps.usageConfig.retainHours, signal),
  ]);
  return shardsWithCounters(heads, cursors);
}
