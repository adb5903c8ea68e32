// What the ledger costs a run, and how late slots start on the embedded host.
//   npm run bench:jobs     bars: claim + end ≤ 15 ms p50 with embedded Postgres; a slot starts ≤ 100 ms late at p99
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { startNodeChild } from "../../local/backends/child-process.ts";
import { freePort } from "../../local/backends/ports.ts";
import { startBackends } from "../../local/backends/stack.ts";
import { workerEnvironment } from "../../local/worker-environment.ts";
import { jobServices } from "../../src/lib/jobs/job-services.supabase.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { STORAGE_QUEUES } from "../../src/queues.ts";

const RUNS = 300;
const WARM_UP = 30;
/** One slot a second. */
const SLOTS = Number(process.env["JOB_BENCH_SLOTS"] ?? 60);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const JOB = "bench_job";

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
const sql = postgres(`postgres://postgres@127.0.0.1:${port}/postgres`, {
  max: 1,
  onnotice: () => {},
});
const { rpc, close } = createRpc({
  url: backends.settings.SUPABASE_URL,
  key: backends.settings.SUPABASE_KEY,
});
const signal = new AbortController().signal;

const at = (times: readonly number[], share: number): string => {
  const sorted = [...times].sort((a, b) => a - b);
  return (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(1);
};
const show = (what: string, times: readonly number[]) =>
  console.log(
    `${what.padEnd(28)} p50 ${at(times, 0.5)} ms  p95 ${at(times, 0.95)} ms  p99 ${at(times, 0.99)} ms`,
  );

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

async function measureLedger(): Promise<void> {
  const { jobLedger, runLease } = jobServices(rpc);
  const facts = { id: JOB, schedule: "* * * * * *", timeZone: "UTC", overlap: "allow" } as const;
  const limits = { latestStartMs: 86_400_000, timeoutMs: 1000, attemptsMax: 1 };
  const job = { ...facts, catchUp: "skip" as const, ...limits, isCritical: false };
  const sync = () => jobLedger.sync([job], true, signal);
  await sync();
  const first = Math.floor(Date.now() / 1000) * 1000 - (RUNS + WARM_UP) * 1000;
  const [pings, overheads, ticks]: number[][] = [[], [], []];
  for (let i = 0; i < RUNS + WARM_UP; i += 1) {
    const ping = await timed(() => rpc("ping", {}, signal));
    const tick = await timed(sync);
    const overhead = await timed(async () => {
      const slot = {
        slotAt: first + i * 1000,
        trigger: "schedule",
        covered: [],
        missed: [],
      } as const;
      const claimant = { instance: "bench", leaseMs: 60_000, clientNow: Date.now() };
      const claim = await jobLedger.claimSlot({ jobId: JOB, ...slot, claimant }, signal);
      if (claim.kind !== "claimed") throw new Error(`slot ${i} was ${claim.kind}`);
      await runLease.finish(claim.run, { status: "succeeded", report: { i } }, signal);
    });
    if (i < WARM_UP) continue;
    pings?.push(ping);
    overheads?.push(overhead);
    ticks?.push(tick + overhead);
  }
  show("ping (baseline, one call)", pings ?? []);
  show("claim + end", overheads ?? []);
  show("tick: sync + claim + end", ticks ?? []);
}

async function measureJitter(): Promise<void> {
  const env = { ...workerEnvironment(backends), USAGE_OBSERVE_SCHEDULE: "* * * * * *" };
  const worker = await startNodeChild(
    "worker",
    new URL("../../local/functions-host/worker.ts", import.meta.url),
    ["--dir", ROOT, "--entry", "src/main.ts", "--port", "0", "--state", join(dir, "timers.json")],
    { env },
  );
  await sleep((SLOTS + 5) * 1000);
  await worker.stop();
  const rows = await sql<{ late: number }[]>`
    select late_ms::int as late from worker.job_runs
     where job_id = 'observe_usage' and trigger = 'schedule' and started_at is not null
     order by slot_at offset 3`; // the first connect
  show(
    `start after the slot (${rows.length})`,
    rows.map(({ late }) => late),
  );
  const [counts] = await sql`
    select count(*)::int as slots, count(distinct slot_at)::int as distinct_slots,
           count(*) filter (where status <> 'succeeded')::int as others
      from worker.job_runs where job_id = 'observe_usage'`;
  console.log(JSON.stringify(counts));
}

await measureLedger();
await measureJitter();
await close();
await sql.end();
await backends.stop();
rmSync(dir, { recursive: true, force: true });
