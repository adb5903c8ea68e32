import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Job, JobReport, JobRun } from "../../src/lib/jobs/job.ts";
import { type RunJobDeps, runQueuedJob, runScheduledJob } from "../../src/lib/jobs/run-job.ts";
import { startManualRun } from "../../src/lib/jobs/start-manual.ts";
import { permanent, transient } from "../../src/lib/kernel/errors.ts";
import { ago, type JobWorld, openJobWorld } from "./job-world.ts";
import { openScheduler, type SchedulerOptions, testJob, testRun } from "./scheduler-world.ts";

let world: JobWorld;
let api: { url: string; key: string };
beforeAll(async () => {
  world = await openJobWorld();
  api = await world.database.supabase();
});
afterAll(() => world.close());

let count = 0;
const closers: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closers) await close();
});

/** Seconds of a minute that a test has left at least, so that no further slot comes due in it. */
const SECONDS_LEFT = 3;

/** A job of every minute, of which the newest `slots` are due and have no row yet. */
async function openJob(
  work: (run: JobRun) => Promise<JobReport>,
  {
    slots = 1,
    ...options
  }: Partial<SchedulerOptions> & { slots?: number } & {
    parts?: Partial<Job<RunJobDeps>>;
  } = {},
) {
  count += 1;
  const id = `run_job_${count}`;
  const scheduler = openScheduler({ ...api, schedule: "* * * * *", ...options });
  closers.push(scheduler.close);
  const job = testJob(id, work, options.parts);
  const { run } = testRun();
  // The first tick makes the job known; then its past is moved.
  await runScheduledJob(scheduler.services, { ...job, work: async () => ({}) }, run);
  await world.sql`delete from worker.job_runs where job_id = ${id}`;
  await until(() => new Date().getSeconds() < 60 - SECONDS_LEFT);
  await world.sql`
    update worker.jobs set last_slot_at = null,
      planned_from = date_trunc('minute', clock_timestamp()) - make_interval(secs => ${60 * slots - 30})
     where id = ${id}`;
  const tick = () => {
    const { run, notes } = testRun();
    return runScheduledJob(scheduler.services, job, run).then(() => notes);
  };
  const statuses = async () => (await world.rows(id)).map(({ status }) => status);
  return { ...scheduler, id, job, tick, statuses };
}

/** Polls, with a bound. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("it did not happen within 10 s");
}

describe("a tick", () => {
  test("runs the newest slot once, however often and wherever the timer fires", async () => {
    const runs: (number | undefined)[] = [];
    const { tick, statuses } = await openJob(async ({ slotAt }) => {
      runs.push(slotAt);
      return { done: 1 };
    });
    await Promise.all([tick(), tick(), tick()]);
    await tick();
    expect(await statuses()).toEqual(["succeeded"]);
    expect(runs).toHaveLength(1);
    expect(Number(runs[0]) % 60_000).toBe(0);
  });

  test("on an empty ledger invents no slots of the past", async () => {
    const scheduler = openScheduler({ ...api, schedule: "0 0 1 1 *" });
    closers.push(scheduler.close);
    const job = testJob("run_job_first", async () => ({}));
    await runScheduledJob(scheduler.services, job, testRun().run);
    expect(await world.rows("run_job_first")).toEqual([]);
  });

  test("shows how far the clock of its instance is wrong, and plans by the clock of the database", async () => {
    const { tick, statuses, id } = await openJob(async () => ({}), { skewMs: -300_000 });
    await tick();
    expect(await statuses()).toEqual(["succeeded"]);
    const [row] = await world.sql`select skew_ms from worker.job_runs where job_id = ${id}`;
    expect(Number(row?.["skew_ms"])).toBeGreaterThan(-302_000);
    expect(Number(row?.["skew_ms"])).toBeLessThan(-298_000);
  });
});

describe("after three slots without anybody", () => {
  const cases = [
    ["once", 3_600_000, ["caught_up", "caught_up", "succeeded"], 1],
    ["skip", 3_600_000, ["missed", "missed", "succeeded"], 1],
    ["all", 3_600_000, ["succeeded", "succeeded", "succeeded"], 3],
    ["all", 120_000, ["missed", "succeeded", "succeeded"], 2],
  ] as const;
  test.each(cases)(
    "%s with a latest start of %i ms leaves %j",
    async (catchUp, latestStartMs, expected, runs) => {
      let started = 0;
      const work = async () => {
        started += 1;
        return {};
      };
      const job = await openJob(work, { slots: 3, parts: { catchUp, latestStartMs } });
      await job.tick();
      const rows = await job.statuses();
      // A minute may begin between planning the test and its tick.
      expect(rows.slice(-3).toSorted()).toEqual([...expected].toSorted());
      expect(started).toBe(runs + (catchUp === "all" ? Math.max(0, rows.length - 3) : 0));
    },
  );
});

describe("work that fails", () => {
  test("with a transient error waits for another attempt in the same row", async () => {
    let calls = 0;
    const work = async () => {
      calls += 1;
      if (calls === 1) throw transient("redis_unavailable");
      return { calls };
    };
    const job = await openJob(work, { parts: { attempts: 3 } });
    await expect(job.tick()).rejects.toMatchObject({ code: "redis_unavailable" });
    expect(await world.rows(job.id)).toMatchObject([
      { status: "queued", reason: "retry", error_code: "redis_unavailable" },
    ]);
    const [message] = job.messages;
    await world.sql`update worker.job_runs set start_after = now() where job_id = ${job.id}`;
    await runQueuedJob(job.services, [job.job], message ?? fail(), testRun().run);
    expect(await world.rows(job.id)).toMatchObject([{ status: "succeeded", attempt: 2 }]);
    await runQueuedJob(job.services, [job.job], message ?? fail(), testRun().run);
    expect(calls).toBe(2);
  });

  test("with a permanent error is not tried again", async () => {
    const work = () => Promise.reject(permanent("redis_refused"));
    const job = await openJob(work, { parts: { attempts: 3 } });
    await expect(job.tick()).rejects.toMatchObject({ code: "redis_refused" });
    expect(await job.statuses()).toEqual(["failed"]);
  });

  test("by not ending is abandoned by its timeout, and its row says so", async () => {
    const job = await openJob(() => new Promise(() => {}), {
      stopGraceMs: 50,
      parts: { timeoutMs: 200 },
    });
    await expect(job.tick()).rejects.toMatchObject({ code: "job_timed_out" });
    expect(await world.rows(job.id)).toMatchObject([
      { status: "abandoned", reason: "timed_out", error_code: "job_timed_out" },
    ]);
  });

  test("by its timeout but stops when it is told to is failed, not abandoned", async () => {
    const work = ({ signal }: JobRun) =>
      new Promise<JobReport>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason)),
      );
    const job = await openJob(work, { parts: { timeoutMs: 200 } });
    await expect(job.tick()).rejects.toMatchObject({ code: "job_timed_out" });
    expect(await world.rows(job.id)).toMatchObject([{ status: "failed", reason: "timed_out" }]);
  });
});

describe("a run that works", () => {
  const endless = ({ signal }: JobRun) =>
    new Promise<JobReport>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason)),
    );

  test("hears a cancel at its heartbeat", async () => {
    const job = await openJob(endless, { heartbeatMs: 50 });
    const ticking = job.tick();
    await until(async () => (await job.statuses())[0] === "running");
    const [row] = await world.rows(job.id);
    const change = { who: "ana", reason: "test" };
    const { signal } = testRun().run;
    await job.services.jobControl.requestCancel(job.id, String(row?.["id"]), change, signal);
    await ticking;
    expect(await job.statuses()).toEqual(["cancelled"]);
  });

  test("keeps its lease and shows its progress while it works", async () => {
    let end = () => {};
    const work = async (run: JobRun) => {
      run.progress({ done: 7 });
      await new Promise<void>((resolve) => {
        end = resolve;
      });
      return {};
    };
    const job = await openJob(work, { heartbeatMs: 100, leaseMs: 1000 });
    const ticking = job.tick();
    await until(async () => {
      const [row] =
        await world.sql`select progress, heartbeat_at - started_at > '1200 ms' as is_late from worker.job_runs where job_id = ${job.id}`;
      return row?.["progress"]?.done === 7 && row["is_late"] === true;
    });
    expect(await job.services.runSweeper.sweep(testRun().run.signal)).toMatchObject({
      abandoned: [],
    });
    end();
    await ticking;
    expect(await job.statuses()).toEqual(["succeeded"]);
  });

  test("goes on to its end when its job is disabled meanwhile; the next slot is skipped", async () => {
    let end = () => {};
    const work = async () => {
      await new Promise<void>((resolve) => {
        end = resolve;
      });
      return {};
    };
    const job = await openJob(work);
    const ticking = job.tick();
    await until(async () => (await job.statuses())[0] === "running");
    const { signal } = testRun().run;
    await job.services.jobControl.setEnabled(job.id, false, { who: "ana", reason: "test" }, signal);
    end();
    await ticking;
    await world.sql`update worker.jobs set last_slot_at = ${ago(5)}, planned_from = ${ago(5)}, disabled_at = ${ago(4)} where id = ${job.id}`;
    await world.sql`update worker.job_runs set slot_at = ${ago(5)} where job_id = ${job.id}`;
    await job.tick();
    const [first, ...rest] = await job.statuses();
    expect(first).toBe("skipped");
    expect(new Set(rest)).toEqual(new Set(["skipped", "succeeded"]));
  });

  test("stops by itself, and cannot end its row, once somebody else has it", async () => {
    const job = await openJob(endless, { heartbeatMs: 50 });
    const ticking = job.tick();
    await until(async () => (await job.statuses())[0] === "running");
    const [row] = await world.rows(job.id);
    await world.expireLease(row?.["id"]);
    await world.sql`update worker.job_runs set fence = fence + 1 where job_id = ${job.id}`;
    await expect(ticking).rejects.toMatchObject({ code: "job_lease_lost" });
    expect(await world.rows(job.id)).toMatchObject([{ status: "running", stale_attempts: 1 }]);
  });
});

describe("a run by hand", () => {
  test("of a hundred requests with one key is one run", async () => {
    let runs = 0;
    const job = await openJob(async () => {
      runs += 1;
      return {};
    });
    const { run } = testRun();
    const request = { key: "k", who: "ana", reason: "test" };
    const deps = job.services;
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => startManualRun(deps, job.id, request, run)),
    );
    expect(new Set(answers.map(({ runId }) => runId)).size).toBe(1);
    expect(job.messages).toHaveLength(1);
    const [message] = job.messages;
    await Promise.all(
      [1, 2, 3].map(() => runQueuedJob(deps, [job.job], message ?? fail(), testRun().run)),
    );
    expect(runs).toBe(1);
  });

  test("of an unknown job is refused by name", async () => {
    const { services, close } = openScheduler({ ...api, schedule: "* * * * *" });
    closers.push(close);
    const starting = startManualRun(
      services,
      "no_such_job",
      { key: undefined, who: "a", reason: "" },
      testRun().run,
    );
    await expect(starting).rejects.toMatchObject({ code: "job_unknown" });
  });
});

function fail(): never {
  throw new Error("no message was sent");
}
