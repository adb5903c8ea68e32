import { randomUUID } from "node:crypto";
import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { type ReconcileDeps, reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import type { ShardMessage } from "../../src/lib/usage/shard-message.ts";
import { shardOf } from "../../src/lib/usage/usage-keys.ts";
import { createUsageProducer, type UsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { type UsageReads, usageReads } from "../../src/lib/usage/usage-reads.supabase.ts";
import type { UsageRecord } from "../../src/lib/usage/usage-record.ts";
import { openDatabase, openRedis, type TestDatabase, type TestRedis } from "./stack.ts";
import { testRun } from "./test-run.ts";
import { type UsageDeps, usageDeps } from "./usage-deps.ts";

export interface UsageWorld {
  readonly server: TestRedis;
  readonly database: TestDatabase;
  readonly redis: RedisDriver;
  readonly deps: UsageDeps;
  readonly producer: UsageProducer;
  readonly reads: UsageReads;
  /** What the shard queue holds: sent by the dispatcher, and continuations. */
  readonly queue: ShardMessage[];
  /** Records with a new request id unless given. */
  use(parts?: Partial<UsageRecord>): UsageRecord;
  record(parts?: Partial<UsageRecord>): Promise<UsageRecord>;
  /** One whole reconciliation: dispatch, then every message until the queue is empty. */
  reconcile(deps?: UsageDeps): Promise<void>;
  /** One shard, as its queue message would. */
  reconcileTenant(tenant: string, deps?: ReconcileDeps): Promise<void>;
  /** Booked tokens of a tenant over all periods, as text. */
  tokensOf(tenant: string): Promise<string>;
  close(): Promise<void>;
}

export const signal = new AbortController().signal;

/** Real Redis and real Postgres behind PostgREST, nobody else in them, and the usage feature wired to both. */
export async function openUsageWorld(
  config: Partial<UsageDeps["usageConfig"]> = {},
): Promise<UsageWorld> {
  const [server, database] = await Promise.all([openRedis(), openDatabase()]);
  const { url, key } = await database.supabase();
  const redis = createIoredisDriver({ url: server.url });
  const { rpc, close: closeRpc } = createRpc({ url, key });
  const queue: ShardMessage[] = [];
  const deps = usageDeps(redis, rpc, queue, config);
  const producer = createUsageProducer({ redis });
  const use = (parts: Partial<UsageRecord> = {}): UsageRecord => ({
    tenant: "acme",
    tokens: 10,
    requestId: randomUUID(),
    occurredAt: Date.now(),
    type: "llm",
    model: "gpt-4o",
    ...parts,
  });
  const world: UsageWorld = {
    server,
    database,
    redis,
    deps,
    producer,
    reads: usageReads(rpc),
    queue,
    use,
    record: async (parts) => {
      const made = use(parts);
      await producer.record(made, signal);
      return made;
    },
    reconcile: async (own = deps) => {
      await dispatchShards(own, testRun());
      while (queue.length > 0) {
        const message = queue.shift();
        if (message) await reconcileShard(own, message, testRun());
      }
    },
    reconcileTenant: (tenant, own = deps) =>
      reconcileShard(
        own,
        { v: 1, job: "daily_reconciliation", runId: randomUUID(), shard: shardOf(tenant), part: 0 },
        testRun(),
      ),
    tokensOf: async (tenant) => {
      const [row] = await database.sql`
        select coalesce(sum(tokens), 0)::text as tokens from worker.usage_totals where tenant = ${tenant}`;
      return String(row?.["tokens"]);
    },
    close: async () => {
      await closeRpc();
      await redis.close();
      await Promise.all([server.close(), database.close()]);
    },
  };
  return world;
}
