import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ago, type JobWorld, jobFacts, openJobWorld } from "../job-world.ts";

let world: JobWorld;
beforeAll(async () => {
  world = await openJobWorld();
});
afterAll(() => world.close());

let count = 0;
async function openJob(facts: Readonly<Record<string, unknown>> = {}): Promise<string> {
  count += 1;
  const id = `job_${count}`;
  await world.call("job_sync", { p_jobs: [jobFacts(id, facts)] });
  await world.sql`update worker.jobs set planned_from = now() - interval '1 day' where id = ${id}`;
  return id;
}
const finish = (claimed: Readonly<Record<string, unknown>>, more: Record<string, unknown> = {}) =>
  world.call("job_finish", {
    p_run: claimed["runId"],
    p_fence: claimed["fence"],
    p_status: "succeeded",
    ...more,
  });
const failed = (retryMs: number | null) => ({
  p_status: "failed",
  p_error_code: "unclassified",
  p_retry_ms: retryMs,
});
const manual = (job: string, key: string | null = null) =>
  world.call("job_start_manual", { p_job: job, p_key: key, p_who: "ana", p_reason: "test" });
const claimRun = (runId: unknown) =>
  world.call("job_claim_run", {
    p_run: runId,
    p_instance: "test",
    p_lease_ms: 60_000,
    p_client_now: new Date().toISOString(),
  });
const setEnabled = (job: string, isEnabled: boolean) =>
  world.call("job_set_enabled", {
    p_job: job,
    p_enabled: isEnabled,
    p_who: "ana",
    p_reason: "test",
  });

describe("a planned slot", () => {
  test("is claimed once however many instances ask at the same time", async () => {
    const job = await openJob({ overlap: "allow" });
    const slot = ago(1);
    const answers = await Promise.all(Array.from({ length: 40 }, () => world.claim(job, slot)));
    const kinds = answers.map(({ kind }) => kind).sort();
    expect(kinds.filter((kind) => kind === "claimed")).toHaveLength(1);
    expect(kinds.filter((kind) => kind === "taken")).toHaveLength(39);
    expect(await world.rows(job)).toHaveLength(1);
  });

  test("has one row, also for somebody who takes no lock before writing it", async () => {
    const job = await openJob();
    const slot = ago(1);
    await world.claim(job, slot);
    const insert = world.sql`
      insert into worker.job_runs (job_id, slot_at, due_at, trigger, status, start_after)
      values (${job}, ${slot}, ${slot}, 'schedule', 'queued', now())`;
    await expect(insert).rejects.toMatchObject({ constraint_name: "job_runs_slot_key" });
  });

  test("cannot be claimed before its time, and leaves no row then", async () => {
    const job = await openJob();
    expect(await world.claim(job, ago(-5))).toMatchObject({ kind: "early" });
    expect(await world.rows(job)).toEqual([]);
  });

  test("is missed when it is later than its latest start", async () => {
    const job = await openJob({ latestStartMs: 60_000 });
    expect(await world.claim(job, ago(10))).toMatchObject({ kind: "missed", reason: "too_late" });
    expect(await world.rows(job)).toMatchObject([{ status: "missed", reason: "too_late" }]);
  });

  test("is skipped while an earlier run works, unless the job overlaps", async () => {
    const [alone, both] = [await openJob(), await openJob({ overlap: "allow" })];
    for (const job of [alone, both]) await world.claim(job, ago(3));
    expect(await world.claim(alone, ago(2))).toMatchObject({ kind: "skipped", reason: "overlap" });
    expect(await world.claim(both, ago(2))).toMatchObject({ kind: "claimed" });
  });

  test("writes down the slots it covers and those that nobody runs", async () => {
    const job = await openJob();
    const claimed = await world.claim(job, ago(1), {
      p_covered: [ago(3), ago(2)],
      p_missed: [ago(4)],
    });
    expect(await world.rows(job)).toMatchObject([
      { status: "missed", reason: "too_late" },
      { status: "caught_up", covered_by: claimed["runId"] },
      { status: "caught_up", covered_by: claimed["runId"] },
      { status: "running" },
    ]);
  });
});

describe("a lease that is over", () => {
  test("is taken over with a higher fence, and the first owner is refused and counted", async () => {
    const job = await openJob();
    const first = await world.claim(job, ago(1));
    await world.expireLease(first["runId"]);
    const second = await world.claim(job, ago(1));
    expect(second).toMatchObject({ kind: "claimed", runId: first["runId"], attempt: 2 });
    expect(Number(second["fence"])).toBeGreaterThan(Number(first["fence"]));
    expect(await finish(first)).toEqual({ kind: "stale" });
    expect(await finish(second)).toEqual({ kind: "finished", status: "succeeded" });
    expect(await world.rows(job)).toMatchObject([
      { status: "succeeded", crashes: 1, stale_attempts: 1 },
    ]);
  });

  test("no longer lets its owner write in the transactions of other functions", async () => {
    const job = await openJob();
    const first = await world.claim(job, ago(1));
    const assert = { p_run: first["runId"], p_fence: first["fence"] };
    await world.call("job_assert_fence", assert);
    await world.expireLease(first["runId"]);
    await world.claim(job, ago(1));
    await expect(world.call("job_assert_fence", assert)).rejects.toThrow("job_fence_stale");
  });

  test("is settled by the sweep: twice again, then abandoned", async () => {
    const job = await openJob();
    let run = await world.claim(job, ago(1));
    for (const again of [true, true, false]) {
      await world.expireLease(run["runId"]);
      const swept = await world.call("job_sweep_runs", {});
      const item = { runId: run["runId"], jobId: job };
      expect(swept).toMatchObject(
        again ? { requeued: [item], send: [item] } : { abandoned: [item] },
      );
      expect(await finish(run)).toEqual({ kind: "stale" });
      if (again) run = await claimRun(run["runId"]);
    }
    expect(await world.rows(job)).toMatchObject([{ status: "abandoned", crashes: 3 }]);
  });

  test("stays with the owner who ends in time, when nobody else came", async () => {
    const job = await openJob();
    const run = await world.claim(job, ago(1));
    await world.expireLease(run["runId"]);
    expect(await finish(run)).toMatchObject({ kind: "finished" });
  });
});

describe("a failed run", () => {
  test("waits for its next attempt in the same row, and ends with its attempts", async () => {
    const job = await openJob({ attemptsMax: 2 });
    const run = await world.claim(job, ago(1));
    expect(await finish(run, failed(0))).toMatchObject({ kind: "queued" });
    const again = await claimRun(run["runId"]);
    expect(again).toMatchObject({ kind: "claimed", attempt: 2, jobId: job });
    expect(await finish(again, failed(0))).toEqual({ kind: "finished", status: "failed" });
    expect(await world.rows(job)).toMatchObject([
      { status: "failed", failures: 2, error_code: "unclassified" },
    ]);
  });

  test("is not due before its pause is over, and the sweep tells of it once it is", async () => {
    const job = await openJob({ attemptsMax: 3 });
    const run = await world.claim(job, ago(1));
    await finish(run, failed(60_000));
    expect(await claimRun(run["runId"])).toMatchObject({ kind: "waiting", reason: "not_due" });
    const told = async () => JSON.stringify(await world.call("job_sweep_runs", {}));
    expect(await told()).not.toContain(String(run["runId"]));
    await world.sql`update worker.job_runs set start_after = now() where id = ${String(run["runId"])}`;
    expect(await told()).toContain(String(run["runId"]));
    expect(await told()).not.toContain(String(run["runId"])); // it was told a moment ago
  });

  test("says the same when the answer to its end was lost", async () => {
    const job = await openJob();
    const run = await world.claim(job, ago(1));
    await finish(run);
    expect(await finish(run)).toEqual({ kind: "already", status: "succeeded" });
    expect(await world.rows(job)).toMatchObject([{ stale_attempts: 0 }]);
  });
});

describe("disabling", () => {
  test("takes effect at the next claim, lets a run end, and says when nothing changed", async () => {
    const job = await openJob();
    const run = await world.claim(job, ago(2));
    expect(await setEnabled(job, false)).toMatchObject({ kind: "changed", disabledBy: "ana" });
    expect(await setEnabled(job, false)).toMatchObject({ kind: "already", isEnabled: false });
    expect(await world.claim(job, ago(1))).toMatchObject({ kind: "skipped", reason: "disabled" });
    expect(await finish(run)).toMatchObject({ kind: "finished" });
    expect(await setEnabled(job, true)).toMatchObject({ kind: "changed", isEnabled: true });
  });

  test("explains the slots of that time, also those that are written down later", async () => {
    const job = await openJob();
    await setEnabled(job, false);
    await world.sql`update worker.jobs set disabled_at = ${ago(3)} where id = ${job}`;
    await world.call("job_record_slots", {
      p_job: job,
      p_slots: [ago(5), ago(2)],
      p_status: "missed",
      p_reason: "too_late",
    });
    expect(await world.rows(job)).toMatchObject([
      { status: "missed" },
      { status: "skipped", reason: "disabled" },
    ]);
  });
});

describe("a run by hand", () => {
  test("is one run for one key, however many ask at the same time", async () => {
    const job = await openJob();
    const answers = await Promise.all(Array.from({ length: 100 }, () => manual(job, "k")));
    expect(answers.filter(({ kind }) => kind === "started")).toHaveLength(1);
    expect(new Set(answers.map(({ runId }) => runId)).size).toBe(1);
    expect(await world.rows(job)).toMatchObject([{ trigger: "manual", status: "queued" }]);
    const [log] = await world.sql`
      select count(*)::int as n from worker.audit_log where subject = ${`job:${job}`}`;
    expect(log?.["n"]).toBe(1);
  });

  test("is refused while another works or waits", async () => {
    const job = await openJob();
    const { runId } = await manual(job);
    expect(await manual(job)).toMatchObject({ kind: "busy", runId });
  });

  test("also runs a job that is disabled", async () => {
    const job = await openJob();
    await setEnabled(job, false);
    const { runId } = await manual(job);
    expect(await claimRun(runId)).toMatchObject({ kind: "claimed", slotAt: null });
  });
});

describe("a cancel", () => {
  const cancel = (job: string, runId: unknown) =>
    world.call("job_request_cancel", { p_job: job, p_run: runId, p_who: "ana", p_reason: "test" });

  test("ends a run that waits, reaches one that works at its heartbeat, and says what is over", async () => {
    const job = await openJob();
    const { runId: waiting } = await manual(job);
    expect(await cancel(job, waiting)).toMatchObject({ kind: "cancelled" });
    const run = await world.claim(job, ago(1));
    expect(await cancel(job, run["runId"])).toMatchObject({ kind: "requested" });
    expect(await cancel(job, run["runId"])).toMatchObject({ kind: "already" });
    const beat = { p_run: run["runId"], p_fence: run["fence"], p_lease_ms: 60_000 };
    expect(await world.call("job_heartbeat", beat)).toMatchObject({ kind: "cancel", by: "ana" });
    await finish(run, { p_status: "cancelled" });
    expect(await cancel(job, run["runId"])).toMatchObject({ kind: "ended", status: "cancelled" });
    expect(await cancel(job, randomUUID())).toEqual({ kind: "unknown" });
  });
});

describe("a job that becomes known", () => {
  test("owes no slots of the time before, and none of an earlier schedule", async () => {
    const id = "job_new";
    const first = await world.call("job_sync", { p_jobs: [jobFacts(id)] });
    const [job] = first["jobs"] as { since: string }[];
    expect(job?.since).toBe(first["now"]);
    await world.sql`update worker.jobs set planned_from = now() - interval '1 day' where id = ${id}`;
    const changed = await world.call("job_sync", {
      p_jobs: [jobFacts(id, { schedule: "0 0 * * * *" })],
    });
    const [again] = changed["jobs"] as { since: string }[];
    expect(again?.since).toBe(changed["now"]);
  });
});

class RolledBack extends Error {}

test("the service role can do all of it", async () => {
  const job = "job_role";
  const attempt = world.sql.begin(async (sql) => {
    await sql`set local role service_role`;
    const call = (fn: string, args: Record<string, unknown>) => world.call(fn, args, sql as never);
    await call("job_sync", { p_jobs: [jobFacts(job)], p_tick: true });
    const slot = ago(1);
    const now = new Date().toISOString();
    const own = { p_instance: "i", p_lease_ms: 60_000, p_client_now: now };
    const claimed = await call("job_claim_slot", {
      p_job: job,
      p_slot: slot,
      p_trigger: "schedule",
      p_covered: [ago(2)],
      p_missed: [ago(3)],
      ...own,
    });
    const fence = { p_run: claimed["runId"], p_fence: claimed["fence"] };
    await call("job_assert_fence", fence);
    await call("job_heartbeat", { ...fence, p_lease_ms: 60_000, p_progress: { done: 1 } });
    await call("job_finish", { ...fence, p_status: "succeeded", p_report: { done: 2 } });
    const who = { p_who: "ana", p_reason: "test" };
    const { runId } = await call("job_start_manual", { p_job: job, p_key: "k", ...who });
    await call("job_claim_run", { p_run: runId, ...own });
    await call("job_request_cancel", { p_job: job, p_run: runId, ...who });
    await call("job_set_enabled", { p_job: job, p_enabled: false, ...who });
    await call("job_sweep_runs", {});
    throw new RolledBack();
  });
  await expect(attempt).rejects.toThrow(RolledBack);
});
