// How much room usage takes: a million uses booked as the service books them, and 200,000 recorded in Redis.
//   npm exec -- node test/bench/usage-sizes.ts     the figures of docs/reference/usage-sizes.md
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import postgres from "postgres";
import { applyMigrations, readMigrations, withoutVector } from "../../local/backends/migrations.ts";
import { startPostgres } from "../../local/backends/postgres.ts";
import { startRedis } from "../../local/backends/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";

const BATCH = 4000;
const BATCHES = 250;
const USES = BATCH * BATCHES;
const TENANTS = 20_000;
const SHARDS = 64;
const RECORDED = 200_000;
const signal = new AbortController().signal;

const row = (name: string, bytes: number, items: number, unit: string): void => {
  const megabytes = (bytes / 1e6).toFixed(1).padStart(8);
  console.log(
    `  ${name.padEnd(44)} ${megabytes} MB  ${Math.round(bytes / items)} bytes per ${unit}`,
  );
};

await measurePostgres();
await measureRedis();

async function measurePostgres(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
  const server = await startPostgres({ dir });
  const sql = postgres(server.url, { max: 1, onnotice: () => {} });
  try {
    const session = { exec: (text: string) => sql.unsafe(text).simple() };
    await applyMigrations(session, withoutVector(readMigrations()));
    await sql`select worker.usage_ensure_days('2026-11-01', '2026-11-30')`;
    for (let shard = 0; shard < SHARDS; shard += 1) {
      await sql`select worker.usage_shard_state(${shard})`;
      await sql`select worker.usage_fork_shard(${shard}, '', 'a', 'first')`;
    }
    for (let batch = 0; batch < BATCHES; batch += 1) await book(sql, batch);
    await sql`vacuum analyze`;
    await reportTables(sql);
  } finally {
    await sql.end();
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** One batch of one shard: uses of its own tenants on one day, two models. */
async function book(sql: postgres.Sql, batch: number): Promise<void> {
  const [shard, from] = [batch % SHARDS, Math.floor(batch / SHARDS) * BATCH];
  await sql.unsafe(`
    select worker.usage_apply_batch(${shard}, null, 'a', ${from}, ${from + BATCH}, ${from + BATCH}, ${from + BATCH}, 'x',
      array(select gen_random_uuid() from generate_series(1, ${BATCH})),
      array(select 'tenant-' || ((i * 7) % ${Math.floor(TENANTS / SHARDS)}) * ${SHARDS} + ${shard} from generate_series(1, ${BATCH}) i),
      array_fill(202611, array[${BATCH}]), array_fill(20758 + ${batch % 30}, array[${BATCH}]),
      array_fill(1::bigint, array[${BATCH}]), array(select i % 2 from generate_series(1, ${BATCH}) i),
      '[["llm", "gpt-4o"], ["embedding", "text-embedding-3-small"]]')`);
}

async function reportTables(sql: postgres.Sql): Promise<void> {
  const size = async (name: string): Promise<number> => {
    const [found] = await sql.unsafe(`
      select coalesce(sum(pg_total_relation_size(c.oid)), 0)::float8 as bytes from pg_class c
       where c.relnamespace = 'worker'::regnamespace and c.relkind = 'r' and c.relname ~ '^${name}$'`);
    return Number(found?.["bytes"]);
  };
  const count = async (table: string): Promise<number> => {
    const [found] = await sql.unsafe(`select count(*)::int as rows from worker.${table}`);
    return Number(found?.["rows"]);
  };
  console.log(`\nPostgres, ${USES} uses of ${TENANTS} tenants in ${BATCHES} batches`);
  row("usage_events, with their key", await size("usage_events_\\d+"), USES, "use");
  const tables = { usage_ledger: "row", usage_totals: "tenant and month", usage_batches: "batch" };
  for (const [table, unit] of Object.entries(tables)) {
    row(table, await size(table), await count(table), unit);
  }
  const [dropped] = await sql`
    with recorded as (
      insert into worker.usage_pruned (period, tenant, shard, tokens, events)
      select period, tenant, 0, sum(tokens), count(*) from worker.usage_events group by 1, 2 returning 1)
    select count(*)::int as rows from recorded`;
  row(
    "usage_pruned, left of all these events",
    await size("usage_pruned"),
    Number(dropped?.["rows"]),
    "tenant and month",
  );
}

async function measureRedis(): Promise<void> {
  const server = await startRedis({});
  const redis = new Redis(server.url);
  const driver = createIoredisDriver({ url: server.url });
  const producer = createUsageProducer({ redis: driver });
  try {
    for (let from = 0; from < RECORDED; from += 500) {
      const uses = Array.from({ length: 500 }, (_, i) => ({
        tenant: `tenant-${(from + i) % TENANTS}`,
        tokens: 1 + (i % 1000),
        requestId: randomUUID(),
        occurredAt: Date.now(),
        type: "llm" as const,
        model: "gpt-4o",
      }));
      await producer.recordAll(uses, signal);
    }
    console.log(`\nRedis (${server.kind}), ${RECORDED} uses of ${TENANTS} tenants`);
    const bytes = async (pattern: string): Promise<number> => {
      const keys = await redis.keys(pattern);
      let sum = 0;
      for (const key of keys) sum += Number(await redis.memory("USAGE", key, "SAMPLES", 0));
      return sum;
    };
    row("log", await bytes("{u:*}:p"), RECORDED, "use, until it is trimmed");
    row("event ids", await bytes("{u:*}:d:*"), RECORDED, "use, for two hours");
    row("counters", await bytes("{u:*}:c:*"), TENANTS, "tenant and month");
  } finally {
    redis.disconnect();
    await driver.close();
    await server.stop();
  }
}
