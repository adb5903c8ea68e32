import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startPostgres } from "../../local/backends/postgres.ts";
import { startSupabase } from "../../local/backends/supabase.ts";

/** `JOB_OUTAGE_MS=120000` is the long form. Longer than a lease either way. */
const OUTAGE_MS = Number(process.env["JOB_OUTAGE_MS"] ?? 5000);
/** What was under way when the server died may still commit, and its return is noticed a moment later. */
const EDGE_MS = 1000;
const CHILD = fileURLToPath(new URL("./scheduler.child.ts", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "worker-service-outage-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root

let server: Awaited<ReturnType<typeof startPostgres>>;
let api: Awaited<ReturnType<typeof startSupabase>>;
let sql: ReturnType<typeof postgres>;
const children: ChildProcess[] = [];
beforeAll(async () => {
  server = await startPostgres({ dir, durable: true });
  api = await startSupabase({ database: { kind: "postgres", url: server.url } });
  sql = connect();
  await sql`create table public.writes (id bigint generated always as identity, run_id uuid, fence bigint, slot_at timestamptz)`;
  await sql`create table public.effects (slot_at timestamptz primary key)`;
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await api.close();
  await sql.end();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

const connect = () => postgres(server.url, { max: 2, onnotice: () => {} });
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The database is gone for `OUTAGE_MS`; between which instants nothing can have been written. */
async function haveOutage(): Promise<{ readonly from: Date; readonly to: Date }> {
  await sql.end();
  // The embedded API does not survive its database; the hosted one answers 503 meanwhile. Either is a failed call.
  const apiPort = Number(new URL(api.url).port);
  await api.close();
  await server.kill();
  const from = new Date(Date.now() + EDGE_MS);
  await pause(OUTAGE_MS);
  const to = new Date(Date.now() - EDGE_MS);
  server = await startPostgres({ dir, durable: true, port: server.port });
  const database = { kind: "postgres", url: server.url } as const;
  api = await startSupabase({ database, port: apiPort, migrate: false });
  sql = connect();
  return { from, to };
}

async function start(job: string, catchUp: string): Promise<ChildProcess> {
  const latestStartMs = 2 * OUTAGE_MS + 120_000;
  const args = {
    url: api.url,
    key: api.secretKey,
    database: server.url,
    job,
    catchUp,
    workMs: 50,
    latestStartMs,
  };
  const list = Object.entries(args).map(([name, value]) => `--${name}=${value}`);
  const child = fork(CHILD, list, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  children.push(child);
  await once(child, "message");
  return child;
}

/** Every slot up to now has its row, and no run is open. */
async function settled(job: string, until: Date): Promise<boolean> {
  const [row] = await sql`
    select last_slot_at >= ${until} as is_written,
           not exists (select from worker.job_runs
                        where job_id = j.id and slot_at <= ${until} and finished_at is null) as is_over
      from worker.jobs j where id = ${job}`;
  return row?.["is_written"] === true && row["is_over"] === true;
}

const POLICIES = [
  ["all", "succeeded"],
  ["once", "caught_up"],
  ["skip", "missed"],
] as const;

test(
  "slots that pass without a database have one row each afterwards, as their job wants it, and no process ends",
  async () => {
    const jobOf = (catchUp: string) => `outage_${catchUp}`;
    const living = await Promise.all(POLICIES.map(([policy]) => start(jobOf(policy), policy)));
    for (const [policy] of POLICIES) {
      const ran = () =>
        sql`select from worker.job_runs where job_id = ${jobOf(policy)} and status = 'succeeded'`;
      await expect.poll(async () => (await ran()).length, { timeout: 20_000 }).toBeGreaterThan(0);
    }
    const { from, to } = await haveOutage();
    const until = new Date();
    for (const [policy, status] of POLICIES) {
      const job = jobOf(policy);
      await expect
        .poll(() => settled(job, until), { timeout: OUTAGE_MS * 2 + 30_000, interval: 250 })
        .toBe(true);
      const [calendar] = await sql`
      with planned as (
        select generate_series(date_trunc('second', j.planned_from) + interval '1 second', ${until}, '1 second') as slot_at
          from worker.jobs j where id = ${job}),
      rows as (select * from worker.job_runs where job_id = ${job} and slot_at <= ${until})
      select (select count(*)::int from planned p where not exists (select from rows r where r.slot_at = p.slot_at)) as missing,
             (select count(*)::int from rows) - (select count(distinct slot_at)::int from rows) as doubled,
             (select count(*)::int from public.writes w join public.writes v on v.run_id = w.run_id and v.id < w.id
               where v.fence >= w.fence) as stale_writes`;
      expect(calendar, policy).toEqual({ missing: 0, doubled: 0, stale_writes: 0 });
      const during = await sql`
      select distinct status from worker.job_runs
       where job_id = ${job} and slot_at between ${from} and ${to}`;
      expect(during.map((row) => row["status"])).toEqual([status]);
    }
    expect(living.map(({ exitCode, signalCode }) => exitCode ?? signalCode)).toEqual([
      null,
      null,
      null,
    ]);
  },
  OUTAGE_MS * 6 + 120_000,
);
