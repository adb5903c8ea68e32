import { randomUUID } from "node:crypto";
import type { Clock } from "../kernel/clock.ts";
import type { Run } from "../kernel/run.ts";
import { type ObserveDeps, observeShards } from "./observe-shards.ts";
import { type PlannedShard, planShards, type ShardCursor, type ShardHead } from "./plan-shards.ts";
import type { ShardQueue } from "./reconcile-shard.ts";

const DAY_MS = 86_400_000;
/** Partitions are made this far ahead: longer than anybody needs to notice that the job stopped. */
const DAYS_AHEAD = 40;

export interface ShardHeads {
  /** The heads of all shards in one round trip. */
  readHeads(signal: AbortSignal): Promise<readonly ShardHead[]>;
}

export interface RunLedger {
  readCursors(retainHours: number, signal: AbortSignal): Promise<readonly ShardCursor[]>;
  /** Idempotent per run id. */
  startRun(run: PlannedRun, signal: AbortSignal): Promise<void>;
  /** Creates the daily partitions of the events; days that exist stay as they are. */
  ensureDays(fromMs: number, toMs: number, signal: AbortSignal): Promise<void>;
}

export interface PlannedRun {
  readonly runId: string;
  readonly job: "daily_reconciliation" | "weekly_consolidation";
  readonly trigger: "timer" | "manual";
  readonly shards: readonly PlannedShard[];
  readonly isTrackingEnabled: boolean;
}

export interface DispatchDeps extends ObserveDeps {
  readonly clock: Clock;
  readonly shardHeads: ShardHeads;
  readonly runLedger: RunLedger;
  readonly shardQueue: ShardQueue;
  readonly usageConfig: { readonly retainHours: number; readonly isTrackingEnabled: boolean };
}

/**
 * Plans one reconciliation: one message for each shard that has work; the shard queue does the work. Safe to run
 * twice: a shard that is visited twice is booked once. A crash before the messages are sent leaves a run that stays
 * "planned"; the next run plans the same shards again.
 */
export async function dispatchShards(deps: DispatchDeps, run: Run): Promise<void> {
  const { retainHours, isTrackingEnabled } = deps.usageConfig;
  const now = deps.clock.now();
  if (!isTrackingEnabled)
    run.log.warn("usage_tracking_disabled", { setting: "ENABLE_USAGE_TRACKING" });
  await observeShards(deps, run); // before anything is followed, trimmed or booked
  const [heads, cursors] = await Promise.all([
    deps.shardHeads.readHeads(run.signal),
    deps.runLedger.readCursors(retainHours, run.signal),
  ]);
  await deps.runLedger.ensureDays(now - DAY_MS, now + DAYS_AHEAD * DAY_MS, run.signal);
  const shards = planShards(heads, cursors);
  const runId = randomUUID();
  const pending = shards.reduce((sum, shard) => sum + shard.pending, 0);
  run.note({ reconciliationRunId: runId, shards: shards.length, pending, isTrackingEnabled });
  const planned = {
    runId,
    job: "daily_reconciliation",
    trigger: "timer",
    shards,
    isTrackingEnabled,
  } as const;
  await deps.runLedger.startRun(planned, run.signal);
  const messages = shards.map(({ shard }) => ({
    v: 1 as const,
    job: "daily_reconciliation" as const,
    runId,
    shard,
    part: 0,
  }));
  await deps.shardQueue.send(messages, 0, run.signal);
}
