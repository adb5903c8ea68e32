// GET /cron/jobs with a long history, on the embedded host over real Postgres, against the same route without one.
//   npm run bench:cron-api     bar: p99 ≤ 60 ms with 100,000 runs
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { startNodeChild } from "../../local/backends/child-process.ts";
import { freePort } from "../../local/backends/ports.ts";
import { startBackends } from "../../local/backends/stack.ts";
import { DEVELOPMENT_KEY, workerEnvironment } from "../../local/worker-environment.ts";
import { JOB_SPECS } from "../../src/jobs.ts";
import { STORAGE_QUEUES } from "../../src/queues.ts";

const RUNS = Number(process.env["CRON_RUNS"] ?? 100_000);
const CALLS = 400;
const WARM_UP_CALLS = 40;
const SQL_CALLS = 50;
const START_MS_MAX = 60_000;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PATHS = ["/healthz", "/cron/jobs", "/status", "/cron/jobs/observe_usage/runs?limit=50"];

const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root
const port = await freePort();
const backends = await startBackends({
  dir,
  database: "postgres",
  ports: { postgres: port },
  queues: STORAGE_QUEUES,
  log: () => {},
});
const worker = await startNodeChild(
  "worker",
  new URL("../../local/functions-host/worker.ts", import.meta.url),
  ["--dir", ROOT, "--entry", "src/main.ts", "--port", "0", "--state", join(dir, "timers.json")],
  { env: workerEnvironment(backends) },
);
const sql = postgres(`postgres://postgres@127.0.0.1:${port}/postgres`, { max: 1 });

/** One after the other: what a person who opens the page waits for. */
async function measure(call: () => Promise<unknown>, calls: number): Promise<number[]> {
  const times: number[] = [];
  for (let n = 0; n < calls; n += 1) {
    const startedAt = performance.now();
    await call();
    times.push(performance.now() - startedAt);
  }
  return times.sort((a, b) => a - b);
}

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;

async function get(path: string): Promise<void> {
  const response = await fetch(`${worker.value}${path}`, {
    headers: { "x-api-key": DEVELOPMENT_KEY },
  });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
}

/** Spread over the jobs as minutely jobs would be, back from now; one in fifty failed. */
const fill = () => sql`
  insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, started_at, finished_at, duration_ms, late_ms,
    attempt, report)
  select j.id, due, due, 'schedule', case when n % 50 = 0 then 'failed' else 'succeeded' end, due, due, 200 + n % 700, n % 90,
         1, '{"checked": 12, "raised": 0}'
    from (select id, row_number() over (order by id) as k, count(*) over () as jobs from worker.jobs) as j,
         generate_series(1, ${RUNS}::int) as n,
         lateral (select date_trunc('minute', now()) - n / j.jobs * interval '1 minute' - interval '1 second' as due) as slot
   where n % j.jobs = j.k - 1
  on conflict do nothing`;

async function show(label: string): Promise<Map<string, number>> {
  const p99s = new Map<string, number>();
  for (const path of PATHS) {
    await measure(() => get(path), WARM_UP_CALLS);
    const times = await measure(() => get(path), CALLS);
    p99s.set(path, at(times, 0.99));
    const [p50, p99, max] = [0.5, 0.99, 1].map((share) => at(times, share).toFixed(1));
    console.log(
      `${label.padEnd(14)} ${path.padEnd(40)} p50 ${p50} ms  p99 ${p99} ms  max ${max} ms`,
    );
  }
  return p99s;
}

try {
  const until = performance.now() + START_MS_MAX;
  while (!(await fetch(`${worker.value}/readyz`)).ok && performance.now() < until) await sleep(100);
  const facts = JOB_SPECS.map(({ id }) => ({
    ...{ id, schedule: "0 3 * * *", timeZone: "UTC", overlap: "skip", catchUp: "skip" },
    ...{ latestStartMs: 1000, timeoutMs: 1000, attemptsMax: 1, isCritical: false },
  }));
  await sql`select worker.job_sync(${sql.json(facts)})`;
  const empty = await show("no history");
  await fill();
  await sql`analyze worker.job_runs`;
  const [{ n } = { n: 0 }] = await sql<
    { n: number }[]
  >`select count(*)::int as n from worker.job_runs`;
  const full = await show(`${n} runs`);
  const alone = await measure(() => sql`select worker.job_read_jobs()`, SQL_CALLS);
  console.log(
    `job_read_jobs alone: p50 ${at(alone, 0.5).toFixed(1)} ms  p99 ${at(alone, 0.99).toFixed(1)} ms`,
  );
  const [p99, before] = [full.get("/cron/jobs") ?? 0, empty.get("/cron/jobs") ?? 0];
  console.log(
    `/cron/jobs p99 ${p99.toFixed(1)} ms, ${(p99 / before).toFixed(1)} times that of no history; bar 60 ms: ${p99 <= 60 ? "held" : "MISSED"}`,
  );
} finally {
  await sql.end();
  await worker.stop();
  await backends.stop();
  rmSync(dir, { recursive: true, force: true });
}
