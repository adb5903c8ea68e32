import { randomUUID } from "node:crypto";
import type { Clock } from "../kernel/clock.ts";
import { AppError } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type {
  ConsolidationLedger,
  ConsolidationQueue,
  MatchQuestion,
  ShardCounters,
} from "./consolidate-shard.ts";
import type { RunLedger, ShardHeads } from "./dispatch-shards.ts";
import {
  countedPeriods,
  cutOf,
  digestsOf,
  idleShards,
  shardsWithCounters,
} from "./plan-consolidation.ts";

const JOB = "weekly_consolidation";
/** Shards whose hashes travel in one call, and calls at the same time. */
const SHARDS_PER_CALL = 16;
const CALLS_AT_ONCE = 2;

export interface ConsolidationDispatchDeps {
  readonly clock: Clock;
  readonly shardHeads: ShardHeads;
  readonly shardCounters: Pick<ShardCounters, "read">;
  readonly consolidationLedger: Pick<ConsolidationLedger, "match">;
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
 * Plans one consolidation: one message for each shard with work; their queue does the work. A shard where nothing waits
 * to be booked and whose counters agree has none, and is done at once. Safe to run twice: what one run corrected, the
 * other finds equal. A crash before the messages are sent leaves a run that stays "planned".
 */
export async function dispatchConsolidation(
  deps: ConsolidationDispatchDeps,
  { trigger, apply, shards: wanted }: ConsolidationOrder,
  run: Run,
): Promise<PlannedConsolidation> {
  const { shards, idle } =
    wanted === undefined ? await findShards(deps, run.signal) : { shards: wanted, idle: [] };
  const runId = randomUUID();
  const { isTrackingEnabled } = deps.usageConfig;
  const planned = shards.map((shard) => ({ shard, pending: 0 }));
  const start = { runId, job: JOB, trigger, shards: planned, isTrackingEnabled } as const;
  await deps.runLedger.startRun(start, run.signal);
  const agreed = await matchIdle(deps, { runId, apply }, idle, run.signal);
  const waiting = shards.filter((shard) => !agreed.has(shard));
  const counts = { shards: shards.length, agreed: agreed.size, sent: waiting.length };
  run.note({ consolidationRunId: runId, apply, ...counts });
  const messages = waiting.map(
    (shard) => ({ v: 1, job: JOB, runId, shard, apply, part: 0, busy: 0 }) as const,
  );
  await deps.consolidationQueue.send(messages, 0, run.signal);
  return { runId, shards: shards.length };
}

async function findShards(deps: ConsolidationDispatchDeps, signal: AbortSignal) {
  const [heads, cursors] = await Promise.all([
    deps.shardHeads.readHeads(signal),
    deps.runLedger.readCursors(deps.usageConfig.retainHours, signal),
  ]);
  return { shards: shardsWithCounters(heads, cursors), idle: idleShards(heads, cursors) };
}

/** The shards whose counters agree. What cannot be read now is asked again by its message. */
async function matchIdle(
  deps: ConsolidationDispatchDeps,
  order: { readonly runId: string; readonly apply: boolean },
  idle: readonly number[],
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const agreed = new Set<number>();
  const groups = groupsOf(idle, SHARDS_PER_CALL).values();
  const work = async () => {
    for (const group of groups) {
      const asked: MatchQuestion[] = [];
      for (const shard of group) asked.push(...(await questionOf(deps, shard, signal)));
      const matches = await deps.consolidationLedger.match(order, asked, signal);
      for (const [i, { kind }] of matches.entries()) {
        if (kind === "agreed") agreed.add(asked[i]?.shard ?? -1);
      }
    }
  };
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, work));
  return agreed;
}

async function questionOf(
  deps: ConsolidationDispatchDeps,
  shard: number,
  signal: AbortSignal,
): Promise<MatchQuestion[]> {
  const periods = countedPeriods(deps.clock.now());
  try {
    const snapshot = await deps.shardCounters.read(shard, periods, signal);
    const digests = digestsOf(snapshot.counters, periods);
    return [{ shard, at: cutOf(snapshot), isVerified: false, digests }];
  } catch (error) {
    if (error instanceof AppError && error.kind === "permanent") return [];
    throw error;
  }
}

function groupsOf(shards: readonly number[], size: number): number[][] {
  const count = Math.ceil(shards.length / size);
  return Array.from({ length: count }, (_, i) => shards.slice(i * size, (i + 1) * size));
}
