// One record each of very many tenants, reconciled by one worker over Upstash REST and rpc; the memory of the worker and
// a run with nothing to do.
//   npm run bench:usage-scale [-- --tenants 1000000]     bars: memory flat from 10^4 to 10^6 tenants (≤ 200 MB)
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startBackends } from "../../local/backends/stack.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";

const { values } = parseArgs({
  options: { tenants: { type: "string", default: "10000,100000,1000000" } },
});
const CHUNK = 500;
const signal = new AbortController().signal;
const WORKER = fileURLToPath(new URL("./usage-scale-worker.ts", import.meta.url));

for (const tenants of values.tenants.split(",").map(Number)) {
  const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
  chmodSync(dir, 0o755); // Postgres runs as another user when we are root
  const backends = await startBackends({ dir, database: "postgres", queues: [], log: () => {} });
  const redis = createIoredisDriver({ url: backends.redisUrl });
  const producer = createUsageProducer({ redis, ringMs: 0 });
  const recordedAt = performance.now();
  for (let from = 0; from < tenants; from += CHUNK) {
    const uses = Array.from({ length: Math.min(CHUNK, tenants - from) }, (_, i) => ({
      tenant: `tenant-${from + i}`,
      tokens: 1 + ((from + i) % 1000),
      requestId: "1",
      occurredAt: Date.now(),
      type: "llm" as const,
      model: "gpt-4o",
    }));
    await producer.recordAll(uses, signal);
  }
  const rate = Math.round((tenants * 1000) / (performance.now() - recordedAt));
  await redis.close();
  console.log(`\n${tenants} tenants, one record each (recorded at ${rate}/s)`);
  // A process of its own: its memory is the worker's and nobody else's.
  spawnSync(process.execPath, [WORKER], {
    env: { ...process.env, ...backends.settings },
    stdio: "inherit",
  });
  await backends.stop();
  rmSync(dir, { recursive: true, force: true });
}
