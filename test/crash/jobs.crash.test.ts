import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type JobWorld, jobFacts, openJobWorld } from "../jobs/job-world.ts";

/** One slot a second. `JOB_SLOTS=1000` is the long form. */
const SLOTS = Number(process.env["JOB_SLOTS"] ?? 15);
const LONG_FORM = 100;
const CHILD = fileURLToPath(new URL("./scheduler.child.ts", import.meta.url));
const SKEWS_MS = [0, 300_000, -300_000];
/** Longer than it takes others to see the lease end and to do the work: only the fence keeps the thawed one out. */
const FROZEN_MS = 3000;
const SETTLE_MS_MAX = 20_000;

let world: JobWorld;
const children: (ChildProcess | undefined)[] = [];
beforeAll(async () => {
  world = await openJobWorld();
  await world.sql`create table public.writes (id bigint generated always as identity, run_id uuid, fence bigint, slot_at timestamptz)`;
  await world.sql`create table public.effects (slot_at timestamptz primary key)`;
});
afterAll(async () => {
  await Promise.all(children.map((child) => child && kill(child)));
  await world.close();
});

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGKILL");
  await closed;
}

async function start(index: number, job: string): Promise<void> {
  const { url, key } = await world.database.supabase();
  const skew = `--skewMs=${SKEWS_MS[index]}`;
  const args = [
    `--url=${url}`,
    `--key=${key}`,
    `--database=${world.database.url}`,
    `--job=${job}`,
    skew,
  ];
  const child = fork(CHILD, args, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  children[index] = child;
  await once(child, "message");
}

/** Freezes the one, kills the other, in turn: there is always one left, mostly two. */
async function disturb(index: number, job: string): Promise<void> {
  const child = children[index];
  if (child === undefined) return;
  if (index === 0 || Math.random() < 0.5) {
    child.kill("SIGSTOP");
    await pause(FROZEN_MS);
    child.kill("SIGCONT");
    return;
  }
  await kill(child);
  await start(index, job);
}

/** Every slot of the time before the job was disabled has its row, and no run is open. */
async function settled(job: string): Promise<boolean> {
  const [row] = await world.sql`
    select last_slot_at >= disabled_at as is_written,
           not exists (select from worker.job_runs where job_id = j.id and finished_at is null) as is_over
      from worker.jobs j where id = ${job}`;
  return row?.["is_written"] === true && row["is_over"] === true;
}

test(
  `three schedulers with wrong clocks, frozen and killed, leave one row and at most one effect for each of ${SLOTS} slots`,
  async () => {
    const job = "crash_job";
    const schedule = {
      schedule: "* * * * * *",
      overlap: "allow",
      catchUp: "all",
      latestStartMs: 60_000,
      timeoutMs: 10_000,
    };
    await world.call("job_sync", { p_jobs: [jobFacts(job, schedule)] });
    await Promise.all(SKEWS_MS.map((_, index) => start(index, job)));
    const endAt = Date.now() + SLOTS * 1000;
    for (let turn = 0; Date.now() < endAt; turn += 1) {
      await disturb(turn % SKEWS_MS.length, job);
      await pause(300);
    }
    // No more slots; what is open may end.
    await world.sql`update worker.jobs set is_enabled = false, disabled_at = now() where id = ${job}`;
    const [{ until } = { until: undefined }] =
      await world.sql`select disabled_at as until from worker.jobs where id = ${job}`;
    for (let waited = 0; waited < SETTLE_MS_MAX && !(await settled(job)); waited += 500)
      await pause(500);
    await Promise.all(children.map((child) => child && kill(child)));

    const [calendar] = await world.sql`
      with planned as (
        select generate_series(date_trunc('second', j.planned_from) + interval '1 second', ${until}, '1 second') as slot_at
          from worker.jobs j where id = ${job}),
      rows as (select * from worker.job_runs where job_id = ${job} and slot_at <= ${until})
      select (select count(*)::int from planned) as planned,
             (select count(*)::int from planned p where not exists (select from rows r where r.slot_at = p.slot_at)) as missing,
             (select count(*)::int from rows r where not exists (select from planned p where p.slot_at = r.slot_at)) as unplanned,
             (select count(*)::int from rows) - (select count(distinct slot_at)::int from rows) as doubled,
             (select count(*)::int from rows where started_at < slot_at) as early,
             (select count(*)::int from rows where finished_at is null) as open,
             (select count(*)::int from rows r where status = 'succeeded'
                and not exists (select from public.effects e where e.slot_at = r.slot_at)) as without_effect,
             (select count(*)::int from public.writes w join public.writes v on v.run_id = w.run_id and v.id < w.id
               where v.fence >= w.fence) as stale_writes,
             (select count(*)::int from rows where crashes > 0) as crashed,
             (select sum(stale_attempts)::int from rows) as refused,
             (select count(*)::int from rows where status = 'succeeded') as succeeded`;
    expect(calendar).toMatchObject({
      missing: 0,
      unplanned: 0,
      doubled: 0,
      early: 0,
      open: 0,
      without_effect: 0,
      stale_writes: 0,
    });
    expect(calendar?.["planned"]).toBeGreaterThanOrEqual(SLOTS);
    expect(calendar?.["succeeded"]).toBeGreaterThan(SLOTS * 0.5);
    // A short run is too short to promise that it meets both.
    if (SLOTS < LONG_FORM) return;
    expect(calendar?.["crashed"], "nothing was disturbed in the middle of a run").toBeGreaterThan(
      0,
    );
    expect(calendar?.["refused"], "no frozen run came back too late").toBeGreaterThan(0);
  },
  SLOTS * 3000 + 60_000,
);
