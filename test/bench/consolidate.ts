// Consolidating 100,000 counters of 64 shards against reading the same counters with bare HGETALL, in the same run.
//   npm exec -- node test/bench/consolidate.ts     bar: ≥ 0.30 of the bare HGETALL rate, through rpc
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import postgres from "postgres";
import { freePort } from "../../local/backends/ports.ts";
import { startBackends } from "../../local/backends/stack.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createRpc, type Rpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { shardCounters } from "../../src/lib/usage/consolidate-counters.redis.ts";
import { dispatchConsolidation } from "../../src/lib/usage/consolidate-dispatch.ts";
import { consolidationLedger } from "../../src/lib/usage/consolidate-ledger.supabase.ts";
import type { ConsolidationMessage } from "../../src/lib/usage/consolidate-message.ts";
import { consolidateShard } from "../../src/lib/usage/consolidate-shard.ts";
import { reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import { keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { runLedger, shardReports, usageLedger } from "../../src/lib/usage/usage-ledger.supabase.ts";
import { usageLog } from "../../src/lib/usage/usage-log.redis.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { testRun } from "../support/test-run.ts";
import { compare, report } from "./compare.ts";

const SHARDS = 64;
const TENANTS = 100_000;
const DRIFTING_SHARE = 0.004; // below the share that is held for a person
const ROUNDS = 5;
/** As two instances of the function would. */
const WORKERS = 2;
const signal = new AbortController().signal;
const period = periodOf(Date.now());

const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root
const postgresPort = await freePort();
const backends = await startBackends({
  dir,
  database: "postgres",
  ports: { postgres: postgresPort },
  queues: [],
  log: () => {},
});
const { SUPABASE_URL: url, SUPABASE_KEY: key } = backends.settings;
const redis = createIoredisDriver({ url: backends.redisUrl });
const bare = new Redis(backends.redisUrl);
const { rpc, close: closeRpc } = createRpc({ url, key });
const sql = postgres(`postgres://postgres@127.0.0.1:${postgresPort}/postgres`, {
  onnotice: () => {},
});

const tenants: string[] = [];
for (let i = 0; tenants.length < TENANTS; i += 1) {
  if (shardOf(`tenant-${i}`) < SHARDS) tenants.push(`tenant-${i}`);
}

const depsOf = (via: Rpc, queue: ConsolidationMessage[] = []) => ({
  clock: { now: Date.now },
  usageLog: usageLog(redis),
  shardHeads: usageLog(redis),
  runLedger: runLedger(via),
  usageLedger: usageLedger(via),
  shardReports: shardReports(via),
  shardQueue: { send: async () => {} },
  shardCounters: shardCounters(redis),
  consolidationLedger: consolidationLedger(via),
  consolidationQueue: {
    send: async (messages: readonly ConsolidationMessage[]) => void queue.push(...messages),
  },
  usageConfig: {
    batchMax: 4000,
    sliceMs: 600_000,
    leaseTtlMs: 60_000,
    retainHours: 48,
    repairAutoMax: 1_000_000,
    isTrackingEnabled: true,
  },
});

/** Parameters by name, as PostgREST would call it, without PostgREST. */
const types = new Map(
  (
    await sql<{ key: string; type: string }[]>`
      select p.proname || '.' || a.name as key, a.type::regtype::text as type
        from pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) as a (name, type)
       where p.pronamespace = 'worker'::regnamespace`
  ).map(({ key: name, type }) => [name, type]),
);
const direct: Rpc = async (fn, args) => {
  const names = Object.keys(args);
  const list = names.map((name, i) => `${name} => $${i + 1}::${types.get(`${fn}.${name}`)}`);
  const values = names.map((name) => args[name] ?? null) as string[];
  const [row] = await sql.unsafe(`select worker.${fn}(${list}) as answer`, values);
  return row?.["answer"];
};

async function recordEverything(): Promise<void> {
  const producer = createUsageProducer({ redis });
  const occurredAt = Date.now();
  for (let from = 0; from < TENANTS; from += 500) {
    const uses = tenants.slice(from, from + 500).map((tenant, i) => ({
      tenant,
      tokens: 1 + ((from + i) % 1000),
      requestId: tenant,
      occurredAt,
      type: "llm" as const,
      model: "gpt-4o",
    }));
    await producer.recordAll(uses, signal);
  }
  const runId = crypto.randomUUID();
  for (let shard = 0; shard < SHARDS; shard += 1) {
    const message = { v: 1, job: "daily_reconciliation", runId, shard, part: 0 } as const;
    await reconcileShard(depsOf(rpc), message, testRun());
  }
  await sql`vacuum analyze worker.usage_totals`;
}

/** Every shard once, as many at a time as in the other contenders. */
async function bareHgetall(): Promise<number> {
  const shards = Array.from({ length: SHARDS }, (_, shard) => shard).values();
  const lane = async () => {
    for (const shard of shards) await bare.hgetall(keysOf(shard).counter(period));
  };
  await Promise.all(Array.from({ length: WORKERS }, lane));
  return TENANTS;
}

async function work(via: Rpc, messages: readonly ConsolidationMessage[]): Promise<number> {
  const deps = depsOf(via);
  const waiting = messages.values();
  const lane = async () => {
    for (const message of waiting) {
      const run = testRun();
      await consolidateShard(deps, message, run);
      if (run.notes["held"]) throw new Error(`shard ${message.shard} held something`);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, lane));
  return TENANTS;
}

/** What the timer and the queue do together. */
async function wholeRun(via: Rpc): Promise<number> {
  const queue: ConsolidationMessage[] = [];
  const order = { trigger: "timer", apply: true } as const;
  await dispatchConsolidation(depsOf(via, queue), order, testRun());
  return work(via, queue);
}

/** Every shard by a message of its own, as when none of them is idle. */
const everyMessage = (via: Rpc): Promise<number> => {
  const job = "weekly_consolidation" as const;
  const message = { v: 1, job, runId: crypto.randomUUID(), apply: true, part: 0, busy: 0 } as const;
  const messages = Array.from({ length: SHARDS }, (_, shard) => ({ ...message, shard }));
  return work(via, messages);
};

async function tamper(): Promise<void> {
  const pipeline = bare.pipeline();
  for (let i = 0; i < TENANTS * DRIFTING_SHARE; i += 1) {
    const tenant = tenants[(i * 7919) % TENANTS] ?? "";
    pipeline.hincrby(keysOf(shardOf(tenant)).counter(period), tenant, i % 2 === 0 ? 50 : -50);
  }
  await pipeline.exec();
}

await recordEverything();
const measured = await compare(
  [
    { name: "bare HGETALL of the same counters", run: bareHgetall },
    { name: "a run where nothing differs, rpc", run: () => wholeRun(rpc) },
    { name: "a run where nothing differs, direct", run: () => wholeRun(direct) },
    { name: "a message for every shard, rpc", run: () => everyMessage(rpc) },
    { name: "a message for every shard, direct", run: () => everyMessage(direct) },
    {
      name: `a run that repairs ${TENANTS * DRIFTING_SHARE} in all shards, rpc`,
      run: async () => {
        await tamper();
        return wholeRun(rpc);
      },
    },
    {
      name: "the same, direct",
      run: async () => {
        await tamper();
        return wholeRun(direct);
      },
    },
  ],
  ROUNDS,
);
report(`${TENANTS} counters of ${SHARDS} shards, bar ≥ 0.30`, "counters", measured);
const [drifts] =
  await sql`select count(*)::int as n, count(*) filter (where state = 'repaired')::int as repaired
  from worker.usage_drifts`;
console.log(`  drifts ${drifts?.["n"]}, repaired ${drifts?.["repaired"]}`);

bare.disconnect();
await redis.close();
await closeRpc();
await sql.end();
await backends.stop();
rmSync(dir, { recursive: true, force: true });
