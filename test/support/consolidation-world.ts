import { randomUUID } from "node:crypto";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { shardCounters } from "../../src/lib/usage/consolidate-counters.redis.ts";
import type { ConsolidationDispatchDeps } from "../../src/lib/usage/consolidate-dispatch.ts";
import { consolidationLedger } from "../../src/lib/usage/consolidate-ledger.supabase.ts";
import type { ConsolidationMessage } from "../../src/lib/usage/consolidate-message.ts";
import { type ConsolidateDeps, consolidateShard } from "../../src/lib/usage/consolidate-shard.ts";
import { driftLedger } from "../../src/lib/usage/usage-drifts.supabase.ts";
import type { Drift, DriftLedger } from "../../src/lib/usage/usage-drifts.ts";
import { keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { type TestRun, testRun } from "./test-run.ts";
import { openUsageWorld, signal, type UsageWorld } from "./usage-world.ts";

export type ConsolidationDeps = ConsolidateDeps & ConsolidationDispatchDeps;

export interface ConsolidationWorld extends Omit<UsageWorld, "deps"> {
  readonly deps: UsageWorld["deps"] & ConsolidationDeps;
  readonly driftLedger: DriftLedger;
  /** What the consolidation queue holds. */
  readonly consolidations: ConsolidationMessage[];
  /** A tenant of a shard that no other test of this world uses. */
  ownTenant(): string;
  /** Another tenant of the same shard. */
  neighbourOf(tenant: string): string;
  /** The shard of a tenant, as its queue message would; continuations included. */
  consolidate(
    tenant: string,
    parts?: Partial<ConsolidationMessage>,
    deps?: ConsolidateDeps,
  ): Promise<TestRun>;
  /** What the counter says; null = there is none. */
  counterOf(tenant: string, period?: number): Promise<string | null>;
  /** Somebody else changes a counter. */
  tamper(tenant: string, tokens: number | string, period?: number): Promise<void>;
  /** What the ledger says happened, as text. */
  usedOf(tenant: string, period?: number): Promise<string>;
  driftsOf(tenant: string): Promise<readonly Drift[]>;
  /** Open amount of the gaps of a shard that vanished between write and read. */
  openGap(tenant: string): Promise<string>;
  /** Removes the newest entry of the log of a shard, as a foreign XDEL would. */
  loseNewest(tenant: string): Promise<void>;
  adjustmentsOf(
    tenant: string,
  ): Promise<readonly { reason: string; tokens: string; period: number }[]>;
}

export const THIS_MONTH = periodOf(Date.now());
/** The last noon of the month before: never older than 35 days. */
export const LAST_MONTH_AT = (() => {
  const now = new Date();
  return Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1) - 12 * 3_600_000;
})();
export const LAST_MONTH = periodOf(LAST_MONTH_AT);

export async function openConsolidationWorld(
  config: Partial<ConsolidationDeps["usageConfig"]> = {},
): Promise<ConsolidationWorld> {
  const world = await openUsageWorld(config);
  const { rpc, close } = createRpc(await world.database.supabase());
  const { redis, database } = world;
  const consolidations: ConsolidationMessage[] = [];
  const deps = {
    ...world.deps,
    shardCounters: shardCounters(redis),
    consolidationLedger: consolidationLedger(rpc),
    consolidationQueue: {
      send: async (messages: readonly ConsolidationMessage[]) =>
        void consolidations.push(...messages),
    },
    usageConfig: { repairAutoMax: 1_000_000, ...world.deps.usageConfig, ...config },
  };
  const usedShards = new Set<number>();
  const ownTenant = (): string => {
    for (;;) {
      const tenant = randomUUID();
      if (usedShards.has(shardOf(tenant))) continue;
      usedShards.add(shardOf(tenant));
      return tenant;
    }
  };
  const neighbourOf = (tenant: string): string => {
    for (;;) {
      const neighbour = randomUUID();
      if (shardOf(neighbour) === shardOf(tenant)) return neighbour;
    }
  };
  const keys = (tenant: string) => keysOf(shardOf(tenant));
  const ledger = driftLedger(rpc);
  const consolidationOf = (tenant: string): ConsolidationMessage => ({
    v: 1,
    job: "weekly_consolidation",
    runId: randomUUID(),
    shard: shardOf(tenant),
    apply: true,
    part: 0,
    busy: 0,
  });
  return {
    ...world,
    deps,
    driftLedger: ledger,
    consolidations,
    ownTenant,
    neighbourOf,
    consolidate: async (tenant, parts = {}, own = deps) => {
      const run = testRun();
      await consolidateShard(own, { ...consolidationOf(tenant), ...parts }, run);
      return run;
    },
    counterOf: async (tenant, period = THIS_MONTH) => {
      const reply = await redis.command(["HGET", keys(tenant).counter(period), tenant], signal);
      return reply === null ? null : String(reply);
    },
    tamper: async (tenant, tokens, period = THIS_MONTH) => {
      await redis.command(
        ["HINCRBY", keys(tenant).counter(period), tenant, String(tokens)],
        signal,
      );
    },
    usedOf: async (tenant, period = THIS_MONTH) =>
      (await world.reads.total(tenant, period, signal)).used,
    driftsOf: async (tenant) => (await ledger.list({ tenant, limit: 200 }, signal)).rows,
    openGap: async (tenant) => {
      const [row] = await database.sql`
        select coalesce(sum(tokens_lost - recovered), 0)::text as open from worker.usage_gaps
         where shard = ${shardOf(tenant)} and cause = 'missing_entries'`;
      return String(row?.["open"]);
    },
    loseNewest: async (tenant) => {
      const { log } = keys(tenant);
      const [newest] = (await redis.command(
        ["XREVRANGE", log, "+", "-", "COUNT", "1"],
        signal,
      )) as [[string]];
      await redis.command(["XDEL", log, newest[0]], signal);
    },
    adjustmentsOf: async (tenant) =>
      database.sql<{ reason: string; tokens: string; period: number }[]>`
        select reason, tokens::text, period from worker.usage_ledger
         where tenant = ${tenant} and reason like 'adjust:%' order by id`,
    close: async () => {
      await close();
      await world.close();
    },
  };
}
