import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { judgeJob } from "../../src/lib/jobs/judge-job.ts";
import { runQueuedJob, runScheduledJob } from "../../src/lib/jobs/run-job.ts";
import { superviseJobs } from "../../src/lib/jobs/supervise-jobs.ts";
import type { Alert } from "../../src/lib/kernel/alerts.ts";
import { permanent } from "../../src/lib/kernel/errors.ts";
import { ago, type JobWorld, MINUTE_MS, openJobWorld } from "./job-world.ts";
import { openScheduler, testJob, testRun } from "./scheduler-world.ts";

let world: JobWorld;
let scheduler: ReturnType<typeof openScheduler>;
let isBroken = false;
const job = testJob("supervised", async () => {
  if (isBroken) throw permanent("redis_refused");
  return {};
});
const open = new Map<string, Alert>();

beforeAll(async () => {
  world = await openJobWorld();
  scheduler = openScheduler({ ...(await world.database.supabase()), schedule: "* * * * *" });
});
afterAll(async () => {
  await scheduler.close();
  await world.close();
});
beforeEach(async () => {
  isBroken = false;
  open.clear();
  scheduler.messages.length = 0;
  await world.sql`delete from worker.job_runs`;
  await supervise();
  scheduler.messages.length = 0;
});

const supervise = () =>
  superviseJobs(
    {
      ...scheduler.services,
      jobSpecs: [job],
      alerts: {
        raise: async (alert) => void open.set(alert.key, alert),
        resolve: async (key) => void open.delete(key),
      },
    },
    testRun().run,
  );
const work = async () => {
  for (const message of scheduler.messages.splice(0)) {
    await runQueuedJob(scheduler.services, [job], message, testRun().run);
  }
};
const moveLedger = (since: string, lastTick: string) => world.sql`
  update worker.jobs set last_slot_at = null, planned_from = ${since}, last_tick_at = ${lastTick} where id = ${job.id}`;

describe("supervision", () => {
  test("finds nothing wrong with a job that is on time", async () => {
    await moveLedger(ago(0), ago(0));
    expect(await supervise()).toMatchObject({ jobs: 1, owing: [], silent: [], failing: [] });
    expect(scheduler.messages).toEqual([]);
  });

  test("has the slots of a silent timer run, and tells of it until the timer ticks again", async () => {
    await moveLedger(ago(4), ago(4));
    expect(await supervise()).toMatchObject({ owing: [job.id], silent: [job.id] });
    expect(scheduler.messages).toEqual([{ v: 1, job: job.id }]);
    await work();
    const statuses = (await world.rows(job.id)).map(({ status }) => status);
    expect(statuses.at(-1)).toBe("succeeded");
    expect(new Set(statuses.slice(0, -1))).toEqual(new Set(["caught_up"]));
    expect(await supervise()).toMatchObject({ owing: [], silent: [job.id] });
    expect([...open.keys()]).toEqual([`job_silent:${job.id}`]);
    await runScheduledJob(scheduler.services, job, testRun().run);
    expect(await supervise()).toMatchObject({ silent: [] });
    expect(open.size).toBe(0);
  });

  test("has a run whose lease is over tried again", async () => {
    await moveLedger(ago(1.5), ago(0));
    const claimed = await world.claim(job.id, ago(1));
    await world.expireLease(claimed["runId"]);
    expect(await supervise()).toMatchObject({ requeued: 1, sent: 1 });
    await work();
    expect(await world.rows(job.id)).toMatchObject([
      { status: "succeeded", crashes: 1, attempt: 2 },
    ]);
  });

  test("tells of a job whose last run failed, until one succeeds", async () => {
    isBroken = true;
    await moveLedger(ago(1.5), ago(0));
    await expect(runScheduledJob(scheduler.services, job, testRun().run)).rejects.toThrow();
    expect(await supervise()).toMatchObject({ failing: [job.id] });
    expect(open.get(`job_failing:${job.id}`)).toMatchObject({ level: "warning" });
    isBroken = false;
    await world.sql`delete from worker.job_runs where slot_at > ${ago(1)}`;
    await world.sql`update worker.job_runs set slot_at = ${ago(3)}, due_at = ${ago(3)}`;
    await moveLedger(ago(1.5), ago(0));
    await runScheduledJob(scheduler.services, job, testRun().run);
    expect(await supervise()).toMatchObject({ failing: [] });
    expect(open.size).toBe(0);
  });
});

describe("a timer", () => {
  const rule = {
    schedule: "* * * * *",
    timeZone: "UTC",
    dst: { overlap: "first", gap: "shift" },
  } as const;
  const now = Date.parse("2026-11-24T12:00:30Z");
  const slot = Date.parse("2026-11-24T12:00:00Z");
  const judge = (lastTickAt: number | undefined, plannedFrom = 0) => {
    const state = {
      id: "a",
      isEnabled: true,
      since: slot,
      lastTickAt,
      plannedFrom,
      last: undefined,
    };
    return judgeJob(rule, state, now).silent !== undefined;
  };

  test("is silent within two slots", () => {
    expect(judge(slot)).toBe(false);
    expect(judge(slot - 2 * MINUTE_MS)).toBe(true);
  });

  test("that fired a moment before its slot fired for that slot", () => {
    const [nearlyOne, nearlyTwo] = [slot - MINUTE_MS - 10, slot - 2 * MINUTE_MS - 10];
    expect([judge(nearlyOne), judge(nearlyTwo)]).toEqual([false, true]);
  });

  test("that never fired is judged from when its job became known", () => {
    expect(judge(undefined, slot)).toBe(false);
    expect(judge(undefined, slot - 3 * MINUTE_MS)).toBe(true);
  });
});
