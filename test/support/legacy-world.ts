import { randomUUID } from "node:crypto";
import type { Alert, Alerts } from "../../src/lib/kernel/alerts.ts";
import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import { createRpc, type Rpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { parseCounterPattern } from "../../src/lib/usage/legacy/counter-key.ts";
import { dispatchLegacy } from "../../src/lib/usage/legacy/dispatch-legacy.ts";
import { type DrainLegacyDeps, drainLegacy } from "../../src/lib/usage/legacy/drain-legacy.ts";
import type { LegacyConfig } from "../../src/lib/usage/legacy/legacy-config.ts";
import { legacyCounters, pendingSet } from "../../src/lib/usage/legacy/legacy-lanes.redis.ts";
import {
  counterLedger,
  legacyRuns,
  pendingLedger,
} from "../../src/lib/usage/legacy/legacy-ledger.supabase.ts";
import type { LegacyMessage } from "../../src/lib/usage/legacy/legacy-message.ts";
import { testRun } from "./test-run.ts";
import { openUsageWorld, signal, type UsageWorld } from "./usage-world.ts";

export const PENDING_KEY = "system:pending_token_reconciliation";

export interface LegacyWorld extends Pick<UsageWorld, "database" | "server" | "redis" | "reads"> {
  /** The log lane beside it. */
  readonly usage: UsageWorld;
  readonly deps: DrainLegacyDeps;
  readonly queue: LegacyMessage[];
  /** Raised and not resolved. */
  readonly alerts: Map<string, Alert>;
  /** Calls functions of the schema public, as older producers do. */
  readonly direct: Rpc;
  readonly worker: Rpc;
  withConfig(config: Partial<LegacyConfig>): DrainLegacyDeps;
  /** One use the way an older producer records it: counted, then booked, or pending when that fails. */
  produce(use: ProducedUse): Promise<void>;
  count(tenant: string, tokens: number, rest?: string): Promise<void>;
  pend(...members: readonly (string | object)[]): Promise<void>;
  members(): Promise<readonly string[]>;
  /** One whole drain: dispatch, then every message until the queue is empty. Returns its run id. */
  drain(deps?: DrainLegacyDeps): Promise<string>;
  tokensOf(tenant: string): Promise<string>;
  /** Events, ledger and totals of a tenant; all three must agree. */
  booksOf(tenant: string): Promise<{ events: string; ledger: string; totals: string }>;
  findingsOf(tenant: string): Promise<readonly Record<string, unknown>[]>;
  close(): Promise<void>;
}

export interface ProducedUse {
  readonly tenant: string;
  readonly tokens: number;
  readonly model?: string;
  /** What becomes of the direct call; `late`: it is committed, and the producer sees a timeout. */
  readonly direct?: "booked" | "failed" | "late";
  /** What becomes of the record that should follow a failed call. */
  readonly pending?: "written" | "lost";
  readonly counter?: "counted" | "failed";
}

/** A pending record as older producers write it. */
export const pendingRecord = (parts: Readonly<Record<string, unknown>> = {}) => ({
  tenant_id: "acme",
  tokens: 10,
  model: "gpt-4o",
  agent_id: null,
  conversation_id: null,
  token_type: "llm",
  timestamp: Date.now() / 1000,
  retry_count: 0,
  operation: randomUUID(),
  ...parts,
});

const PATTERN = parseCounterPattern("*:counter:token_usage:type:*");

export const LEGACY_CONFIG: LegacyConfig = {
  pendingKey: PENDING_KEY,
  counterPattern: PATTERN,
  counterDetail: "beside",
  counterTenants: new Set(),
  sliceMs: 60_000,
  alertThreshold: 1000,
  criticalThreshold: 5000,
  isTrackingEnabled: true,
};

/** Real Redis and real Postgres, with the legacy lanes wired to both. */
export async function openLegacyWorld(
  config: Partial<LegacyConfig> = {},
  driver?: (world: UsageWorld) => RedisDriver,
): Promise<LegacyWorld> {
  const usage = await openUsageWorld();
  const { database, server, reads } = usage;
  const redis = driver?.(usage) ?? usage.redis;
  const { url, key } = await database.supabase();
  const [direct, worker] = [createRpc({ url, key, schema: "public" }), createRpc({ url, key })];
  const queue: LegacyMessage[] = [];
  const alerts = new Map<string, Alert>();
  const deps = dependencies({ redis, rpc: worker.rpc, queue, alerts, config });
  const world: LegacyWorld = {
    usage,
    database,
    server,
    redis,
    reads,
    deps,
    queue,
    alerts,
    direct: direct.rpc,
    worker: worker.rpc,
    withConfig: (changes) => ({ ...deps, legacyConfig: { ...deps.legacyConfig, ...changes } }),
    produce: (use) => produce(world, use),
    count: async (tenant, tokens, rest = "llm:model:gpt-4o") => {
      const counter = `${tenant}:counter:token_usage:type:${rest}`;
      await redis.command(["INCRBY", counter, String(tokens)], signal);
    },
    pend: async (...members) => {
      const texts = members.map((it) => (typeof it === "string" ? it : JSON.stringify(it)));
      await redis.command(["SADD", PENDING_KEY, ...texts], signal);
    },
    members: async () => {
      const reply = await redis.command(["SMEMBERS", PENDING_KEY], signal);
      return Array.isArray(reply) ? reply.map(String) : [];
    },
    drain: async (own = deps) => {
      await dispatchLegacy(own, testRun());
      const runId = queue.at(-1)?.runId ?? "";
      for (let message = queue.shift(); message !== undefined; message = queue.shift()) {
        await drainLegacy(own, message, testRun());
      }
      return runId;
    },
    tokensOf: usage.tokensOf,
    booksOf: async (tenant) => {
      const [row] = await database.sql`
        select (select coalesce(sum(tokens), 0)::text from worker.usage_events where tenant = ${tenant}) as events,
               (select coalesce(sum(tokens), 0)::text from worker.usage_ledger where tenant = ${tenant}) as ledger,
               (select coalesce(sum(tokens), 0)::text from worker.usage_totals where tenant = ${tenant}) as totals`;
      return row as { events: string; ledger: string; totals: string };
    },
    findingsOf: async (tenant) => [
      ...(await database.sql`
        select kind, cause, tokens::text, evidence from worker.usage_legacy_findings
         where tenant = ${tenant} order by id`),
    ],
    close: async () => {
      await Promise.all([direct.close(), worker.close()]);
      if (redis !== usage.redis) await redis.close();
      await usage.close();
    },
  };
  return world;
}

interface Parts {
  readonly redis: RedisDriver;
  readonly rpc: Rpc;
  readonly queue: LegacyMessage[];
  readonly alerts: Map<string, Alert>;
  readonly config: Partial<LegacyConfig>;
}

function dependencies({ redis, rpc, queue, alerts, config }: Parts): DrainLegacyDeps {
  const remembering: Alerts = {
    raise: async (alert) => void alerts.set(alert.key, alert),
    resolve: async (key) => void alerts.delete(key),
  };
  return {
    clock: { now: Date.now },
    pendingSet: pendingSet(redis, PENDING_KEY),
    pendingLedger: pendingLedger(rpc),
    legacyCounters: legacyCounters(redis),
    counterLedger: counterLedger(rpc),
    legacyRuns: legacyRuns(rpc),
    legacyQueue: { send: async (message) => void queue.push(message) },
    alerts: remembering,
    legacyConfig: { ...LEGACY_CONFIG, ...config },
  };
}

async function produce(world: LegacyWorld, use: ProducedUse): Promise<void> {
  const { tenant, tokens, model = "gpt-4o", direct = "booked", pending = "written" } = use;
  if (use.counter !== "failed") await world.count(tenant, tokens, `llm:model:${model}`);
  if (direct !== "failed") {
    await world.direct("increment_token_usage", { p_tenant_id: tenant, p_tokens: tokens }, signal);
  }
  const isPending = direct !== "booked" && use.counter !== "failed" && pending === "written";
  if (isPending) await world.pend(pendingRecord({ tenant_id: tenant, tokens, model }));
}
