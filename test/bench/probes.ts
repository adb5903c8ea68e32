// /health at 200 requests a second on the embedded host, and what that costs the backends.
//   npm run bench:probes     bar: p99 ≤ 50 ms; the backends see at most one probe a second
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { startNodeChild } from "../../local/backends/child-process.ts";
import { startBackends } from "../../local/backends/stack.ts";
import { workerEnvironment } from "../../local/worker-environment.ts";
import { STORAGE_QUEUES } from "../../src/queues.ts";

const RATE = 200;
const SECONDS = 10;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root
const backends = await startBackends({
  dir,
  database: "postgres",
  queues: STORAGE_QUEUES,
  log: () => {},
});
const worker = await startNodeChild(
  "worker",
  new URL("../../local/functions-host/worker.ts", import.meta.url),
  ["--dir", ROOT, "--entry", "src/main.ts", "--port", "0", "--state", join(dir, "timers.json")],
  { env: workerEnvironment(backends) },
);
const redis = new Redis(backends.redisUrl);

/** Open loop: a request leaves when it is due, whether or not the one before has answered. */
async function load(path: string): Promise<number[]> {
  const times: number[] = [];
  const pending: Promise<void>[] = [];
  const startedAt = performance.now();
  for (let i = 0; i < RATE * SECONDS; i += 1) {
    const wait = startedAt + (i * 1000) / RATE - performance.now();
    if (wait > 0) await sleep(wait);
    const sentAt = performance.now();
    pending.push(
      fetch(`${worker.value}${path}`).then(async (response) => {
        await response.arrayBuffer();
        times.push(response.ok ? performance.now() - sentAt : Number.POSITIVE_INFINITY);
      }),
    );
  }
  await Promise.all(pending);
  return times.sort((a, b) => a - b);
}

const at = (sorted: readonly number[], share: number): string =>
  (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(1);

const pings = async (): Promise<number> =>
  Number(/cmdstat_ping:calls=(\d+)/.exec(await redis.info("commandstats"))?.[1] ?? 0);

// Ready first, as a load balancer would wait: the first probe of a process opens its connections.
while (!(await fetch(`${worker.value}/readyz`)).ok) await sleep(100);
for (const path of ["/healthz", "/health", "/healthz", "/health"]) {
  const before = await pings();
  const times = await load(path);
  const probes = (await pings()) - before;
  console.log(
    `${path.padEnd(9)} ${RATE}/s for ${SECONDS} s: p50 ${at(times, 0.5)} ms  p99 ${at(times, 0.99)} ms  max ${at(times, 1)} ms  probes ${probes}`,
  );
}
redis.disconnect();
await worker.stop();
await backends.stop();
rmSync(dir, { recursive: true, force: true });
