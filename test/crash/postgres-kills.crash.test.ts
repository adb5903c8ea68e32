import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startPostgres } from "../../local/backends/postgres.ts";
import { startSupabase } from "../../local/backends/supabase.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import type { ShardMessage } from "../../src/lib/usage/shard-message.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { openRedis, type TestRedis } from "../support/stack.ts";
import { testRun } from "../support/test-run.ts";
import { usageDeps } from "../support/usage-deps.ts";

/**
 * Postgres is killed with SIGKILL while batches are booked, and comes back with what it had committed. A batch whose
 * commit nobody heard of is read again and changes nothing.
 */
const KILLS = 3;
const signal = new AbortController().signal;
const dir = mkdtempSync(join(tmpdir(), "worker-service-postgres-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root

let redis: TestRedis;
let server: Awaited<ReturnType<typeof startPostgres>>;
let api: Awaited<ReturnType<typeof startSupabase>>;
beforeAll(async () => {
  [redis, server] = await Promise.all([openRedis(), startPostgres({ dir, durable: true })]);
  api = await startSupabase({ database: { kind: "postgres", url: server.url } });
});
afterAll(async () => {
  await api.close();
  await Promise.all([server.stop(), redis.close()]);
  rmSync(dir, { recursive: true, force: true });
});

test("a killed database loses no token and doubles none", async () => {
  const driver = createIoredisDriver({ url: redis.url });
  const { rpc, close } = createRpc({ url: api.url, key: api.secretKey });
  const queue: ShardMessage[] = [];
  const deps = usageDeps(driver, rpc, queue, { batchMax: 10, leaseTtlMs: 1 });
  const producer = createUsageProducer({ redis: driver });
  const reconcile = async () => {
    await dispatchShards(deps, testRun());
    for (const message of queue.splice(0)) await reconcileShard(deps, message, testRun());
  };
  let recorded = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    const uses = Array.from({ length: 300 }, (_, i) => ({
      tenant: `tenant-${i % 10}`,
      tokens: i,
      requestId: `${kill}-${i}`,
      occurredAt: Date.now(),
      type: "llm" as const,
    }));
    await producer.recordAll(uses, signal);
    recorded += (299 * 300) / 2;
    const running = reconcile().then(
      () => "finished",
      () => "failed",
    );
    await server.kill();
    await running;
    queue.length = 0;
    server = await startPostgres({ dir, durable: true, port: server.port });
  }
  await expect
    .poll(() => reconcile().then(() => "booked", String), { timeout: 20_000 })
    .toBe("booked");
  const runs = await Promise.all(
    Array.from({ length: 10 }, async (_, i) => {
      const month = Number(new Date().toISOString().slice(0, 7).replace("-", ""));
      const args = { p_tenant: `tenant-${i}`, p_period: month };
      const row = (await rpc("usage_read_total", args, signal)) as { tokens: string };
      return Number(row.tokens);
    }),
  );
  expect(runs.reduce((a, b) => a + b, 0)).toBe(recorded);
  await close();
  await driver.close();
}, 90_000);
