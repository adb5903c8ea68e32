// The same records moved from Redis to Postgres by (a) the loop that reads, inserts and removes one record at a time,
// (b) lock, pop and update per record, and (c) ours; all through Upstash REST and rpc, with 0 and 5 ms added to each
// request. Beside them the physical limit: a bulk insert into the same indexed table.
//   npm run bench:usage     bars: ours ≥ 50 × (a) at 0 ms, ≥ 300 × at 5 ms, ≥ 0.45 of the bulk insert
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { startNodeChild } from "../../local/backends/child-process.ts";
import { freePort } from "../../local/backends/ports.ts";
import { startBackends } from "../../local/backends/stack.ts";
import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import { createRpc, type Rpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";
import { reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import { eventIdOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { shardReports, usageLedger } from "../../src/lib/usage/usage-ledger.supabase.ts";
import { usageLog } from "../../src/lib/usage/usage-log.redis.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { testRun } from "../support/test-run.ts";
import { median } from "./compare.ts";

const TENANTS = 16_000;
const RECORDS = 48_000;
/** As many shards as the records fill batches of; with all 256 the batches would be small for no reason of ours. */
const SHARDS = 8;
const BATCH = 8000;
/** The slow contenders do a share of the work: their rate does not depend on how much there is. */
const LOOP_RECORDS = 400;
const ROUNDS = 3;
const signal = new AbortController().signal;

let addedMs = 0;
const plainFetch = globalThis.fetch;
globalThis.fetch = async (...args) => {
  if (addedMs > 0) await sleep(addedMs);
  return plainFetch(...args);
};

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
const { settings } = backends;
const redis = createUpstashDriver({
  url: settings.UPSTASH_REDIS_REST_URL,
  token: settings.UPSTASH_REDIS_REST_TOKEN,
});
const databaseUrl = `postgres://postgres@127.0.0.1:${postgresPort}/postgres`;
const sql = postgres(databaseUrl, { onnotice: () => {} });
await sql.unsafe(`
  create table if not exists worker.bench_totals (tenant text primary key, tokens bigint not null);
  create or replace function worker.bench_add(p_tenant text, p_tokens bigint) returns void language sql
  set search_path = '' as $$ insert into worker.bench_totals as t values (p_tenant, p_tokens)
  on conflict (tenant) do update set tokens = t.tokens + excluded.tokens $$;
  grant all on worker.bench_totals to service_role;`);
// An API knows the functions that were there when it started.
const api = await startNodeChild(
  "Supabase API",
  new URL("../../local/backends/supabase.child.ts", import.meta.url),
  ["--postgres", databaseUrl],
);
const { rpc, close: closeRpc } = createRpc({ url: api.value, key: settings.SUPABASE_KEY });

const tenants: string[] = [];
for (let i = 0; tenants.length < TENANTS; i += 1) {
  if (shardOf(`tenant-${i}`) < SHARDS) tenants.push(`tenant-${i}`);
}
const tenantOf = (i: number): string => tenants[i % TENANTS] ?? "";
let run = 0;

async function loop(redis: RedisDriver, rpc: Rpc): Promise<number> {
  const members = Array.from({ length: LOOP_RECORDS }, (_, i) =>
    JSON.stringify({ tenant: tenantOf(i), tokens: 1 + i, id: `${run}-${i}` }),
  );
  await redis.command(["SADD", "bench:pending", ...members], signal);
  const startedAt = performance.now();
  for (const member of (await redis.command(["SMEMBERS", "bench:pending"], signal)) as string[]) {
    const { tenant, tokens } = JSON.parse(member) as { tenant: string; tokens: number };
    await rpc("bench_add", { p_tenant: tenant, p_tokens: tokens }, signal);
    await redis.command(["SREM", "bench:pending", member], signal);
  }
  return (LOOP_RECORDS * 1000) / (performance.now() - startedAt);
}

async function lockPopUpdate(redis: RedisDriver, rpc: Rpc): Promise<number> {
  const members = Array.from({ length: LOOP_RECORDS }, (_, i) =>
    JSON.stringify({ tenant: tenantOf(i), tokens: 1 + i }),
  );
  await redis.command(["RPUSH", "bench:list", ...members], signal);
  const startedAt = performance.now();
  for (let left = LOOP_RECORDS; left > 0; left -= 100) {
    await redis.command(["SET", "bench:lock", "me", "NX", "PX", "30000"], signal);
    const popped = (await redis.command(["LPOP", "bench:list", "100"], signal)) as string[];
    const sums = new Map<string, number>();
    for (const member of popped) {
      const { tenant, tokens } = JSON.parse(member) as { tenant: string; tokens: number };
      sums.set(tenant, (sums.get(tenant) ?? 0) + tokens);
    }
    for (const [tenant, tokens] of sums)
      await rpc("bench_add", { p_tenant: tenant, p_tokens: tokens }, signal);
    await redis.command(["DEL", "bench:lock"], signal);
  }
  return (LOOP_RECORDS * 1000) / (performance.now() - startedAt);
}

async function ours(redis: RedisDriver, rpc: Rpc): Promise<number> {
  const delay = addedMs;
  addedMs = 0;
  const producer = createUsageProducer({ redis });
  for (let from = 0; from < RECORDS; from += 500) {
    await producer.recordAll(
      Array.from({ length: 500 }, (_, i) => ({
        tenant: tenantOf(from + i),
        tokens: 1 + i,
        requestId: `${run}-${from + i}`,
        occurredAt: Date.now(),
        type: "llm" as const,
        model: "gpt-4o",
      })),
      signal,
    );
  }
  addedMs = delay;
  const deps = {
    clock: { now: Date.now },
    usageLog: usageLog(redis),
    usageLedger: usageLedger(rpc),
    shardReports: shardReports(rpc),
    shardQueue: { send: async () => {} },
    usageConfig: { batchMax: BATCH, sliceMs: 600_000, leaseTtlMs: 60_000, retainHours: 48 },
  };
  const runId = crypto.randomUUID();
  const startedAt = performance.now();
  for (let shard = 0; shard < SHARDS; shard += 1) {
    await reconcileShard(
      deps,
      { v: 1, job: "daily_reconciliation", runId, shard, part: 0 },
      testRun(),
    );
  }
  return (RECORDS * 1000) / (performance.now() - startedAt);
}

/**
 * The same columns into the same table with the same index, one batch after another as ours, on one connection straight to
 * Postgres. It leaves out what is booked twice, as whoever repeats a call must; without that it would be a quarter faster.
 */
async function bulkInsert(): Promise<number> {
  const day = new Date().toISOString().slice(0, 10);
  const period = Number(day.slice(0, 7).replace("-", ""));
  const batches = Array.from({ length: RECORDS / BATCH }, (_, b) =>
    Array.from({ length: BATCH }, (_, i) => b * BATCH + i),
  );
  const uids = batches.map((batch) => batch.map((i) => eventIdOf(tenantOf(i), `bulk-${run}-${i}`)));
  const startedAt = performance.now();
  for (const [b, batch] of batches.entries()) {
    await sql`
      insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
      select ${day}::date, ${period}, tokens, 0, uid, tenant, 'llm', 'gpt-4o'
        from unnest(${sql.array(uids[b] ?? [])}::uuid[], ${sql.array(batch.map((i) => 1 + (i % 500)))}::bigint[],
                    ${sql.array(batch.map(tenantOf))}::text[]) as u (uid, tokens, tenant)
      on conflict do nothing`;
  }
  return (RECORDS * 1000) / (performance.now() - startedAt);
}

const contenders: [string, () => Promise<number>][] = [
  ["(a) read, insert, remove one by one", () => loop(redis, rpc)],
  ["(b) lock, pop 100, update per tenant", () => lockPopUpdate(redis, rpc)],
  ["(c) ours", () => ours(redis, rpc)],
];
for (const added of [0, 5]) {
  const rates = new Map<string, number[]>();
  for (let round = 0; round <= ROUNDS; round += 1) {
    run += 1;
    addedMs = added;
    for (const [name, work] of [
      ...contenders,
      ["limit: bulk insert, direct", bulkInsert] as const,
    ]) {
      const rate = await work();
      if (round > 0) rates.set(name, [...(rates.get(name) ?? []), rate]);
    }
  }
  const mid = (name: string) => median(rates.get(name) ?? []);
  console.log(`\n+${added} ms per request, ${ROUNDS} rounds, medians`);
  for (const [name, list] of rates) {
    const ratio = mid(name) / mid("(a) read, insert, remove one by one");
    console.log(
      `  ${name.padEnd(40)} ${String(Math.round(median(list))).padStart(8)} records/s  × ${ratio.toFixed(1)}`,
    );
  }
  console.log(
    `  ours / bulk insert: ${(mid("(c) ours") / mid("limit: bulk insert, direct")).toFixed(2)}`,
  );
}
await sql.end();
await closeRpc();
await api.stop();
await redis.close();
await backends.stop();
rmSync(dir, { recursive: true, force: true });
