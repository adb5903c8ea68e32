import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import type { Rpc } from "../../src/lib/runtime/rpc.supabase.ts";
import type { DispatchDeps } from "../../src/lib/usage/dispatch-shards.ts";
import { logWitness } from "../../src/lib/usage/observe-shards.redis.ts";
import { observations } from "../../src/lib/usage/observe-shards.supabase.ts";
import type { ReconcileDeps } from "../../src/lib/usage/reconcile-shard.ts";
import type { ShardMessage } from "../../src/lib/usage/shard-message.ts";
import { runLedger, shardReports, usageLedger } from "../../src/lib/usage/usage-ledger.supabase.ts";
import { usageLog } from "../../src/lib/usage/usage-log.redis.ts";

export type UsageDeps = ReconcileDeps & DispatchDeps;

/** The usage feature on real connections; its messages go into an array instead of a storage queue. */
export const usageDeps = (
  redis: RedisDriver,
  rpc: Rpc,
  queue: ShardMessage[],
  config: Partial<UsageDeps["usageConfig"]> = {},
): UsageDeps => ({
  clock: { now: Date.now },
  usageLog: usageLog(redis),
  shardHeads: usageLog(redis),
  usageLedger: usageLedger(rpc),
  runLedger: runLedger(rpc),
  shardReports: shardReports(rpc),
  logWitness: logWitness(redis),
  observations: observations(rpc),
  shardQueue: { send: async (messages) => void queue.push(...messages) },
  usageConfig: {
    batchMax: 4000,
    sliceMs: 60_000,
    leaseTtlMs: 60_000,
    retainHours: 48,
    isTrackingEnabled: true,
    ...config,
  },
});
