import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  type LedgerShard,
  type LedgerWorld,
  openLedgerWorld,
  waitingLocks,
} from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const JOB = "daily_reconciliation";

async function startRun(shards: { shard: number; pending: number }[], job = JOB): Promise<string> {
  const run = randomUUID();
  const args = { p_run: run, p_job: job, p_trigger: "timer", p_shards: shards, p_tracking: true };
  expect(await world.call("usage_start_run", args)).toEqual({ status: "started" });
  return run;
}

const report = (run: string, shard: number, state: string, error: string | null = null) =>
  world.call("usage_report_shard", { p_run: run, p_shard: shard, p_state: state, p_error: error });

const readRun = (run: string | null) => world.call<Answer | null>("usage_read_run", { p_run: run });

/** A shard with records waiting, half of them the same request. */
async function busyShard(records: number): Promise<LedgerShard> {
  const shard = await world.openShard();
  for (let i = 0; i < records; i += 1) shard.record({ request: `r${Math.floor(i / 2)}` });
  return shard;
}

describe("a run", () => {
  test("that is planned shows what waits", async () => {
    const run = await startRun([
      { shard: 1, pending: 30 },
      { shard: 2, pending: 10 },
    ]);
    expect(await readRun(run)).toEqual({
      runId: run,
      job: JOB,
      trigger: "timer",
      status: "planned",
      isTrackingEnabled: true,
      startedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/),
      finishedAt: null,
      shardsPlanned: 2,
      shardsDone: 0,
      shardsFailed: 0,
      recordsPending: 40,
      recordsApplied: 0,
      duplicates: 0,
      quarantined: 0,
      tokens: "0",
      batches: 0,
      percent: 0,
      recordsPerSecond: 0,
      etaSeconds: null,
    });
  });

  test("that is started twice stays as it was", async () => {
    const run = await startRun([{ shard: 1, pending: 30 }]);
    const again = {
      p_run: run,
      p_job: "other",
      p_trigger: "manual",
      p_shards: [],
      p_tracking: false,
    };
    expect(await world.call("usage_start_run", again)).toEqual({ status: "known" });
    expect(await readRun(run)).toMatchObject({ job: JOB, shardsPlanned: 1 });
  });

  test("without work is finished at once", async () => {
    const run = await startRun([]);
    expect(await readRun(run)).toMatchObject({
      status: "succeeded",
      finishedAt: expect.any(String),
      percent: 100,
      etaSeconds: 0,
    });
  });

  test("shows progress, rate and the time left while it works", async () => {
    const shard = await busyShard(8);
    const run = await startRun([
      { shard: shard.shard, pending: 8 },
      { shard: 9_999, pending: 8 },
    ]);
    await world.sql`
      update worker.usage_runs set started_at = started_at - interval '10 s' where run_id = ${run}`;
    await shard.apply({ p_run: run });
    expect(await report(run, shard.shard, "running")).toEqual({
      status: "ok",
      run: "running",
      finished: false,
    });
    const progress = await readRun(run);
    expect(progress).toMatchObject({
      status: "running",
      recordsApplied: 4,
      duplicates: 4,
      tokens: "40",
      batches: 1,
      percent: 50,
    });
    expect(progress?.["recordsPerSecond"]).toBeCloseTo(0.8, 1);
    expect(progress?.["etaSeconds"]).toBeGreaterThanOrEqual(10);
    expect(progress?.["etaSeconds"]).toBeLessThan(20);
  });

  test("counts a report that comes twice once", async () => {
    const shard = await busyShard(4);
    shard.bad({ raw: "x", error: "format" });
    const run = await startRun([{ shard: shard.shard, pending: 5 }]);
    await shard.apply({ p_run: run });
    await report(run, shard.shard, "running");
    expect(await report(run, shard.shard, "done")).toMatchObject({
      run: "succeeded",
      finished: true,
    });
    expect(await report(run, shard.shard, "done")).toMatchObject({
      run: "succeeded",
      finished: false,
    });
    expect(await readRun(run)).toMatchObject({
      status: "succeeded",
      recordsApplied: 2,
      duplicates: 2,
      quarantined: 1,
      tokens: "20",
      percent: 100,
    });
  });

  test("counts only its own batches", async () => {
    const shard = await busyShard(4);
    await shard.apply({ p_run: randomUUID() });
    shard.record();
    const run = await startRun([{ shard: shard.shard, pending: 1 }]);
    await shard.apply({ p_run: run });
    await report(run, shard.shard, "done");
    expect(await readRun(run)).toMatchObject({ recordsApplied: 1, tokens: "10" });
  });

  test("ends with its last shard, and fails when one of them failed", async () => {
    const run = await startRun([
      { shard: 1, pending: 1 },
      { shard: 2, pending: 1 },
    ]);
    expect(await report(run, 1, "failed", "message_poisoned")).toMatchObject({ finished: false });
    expect(await report(run, 2, "done")).toMatchObject({ run: "failed", finished: true });
    expect(await readRun(run)).toMatchObject({ status: "failed", shardsDone: 1, shardsFailed: 1 });
    const [row] = await world.sql`
      select state, error_code from worker.usage_run_shards where run_id = ${run} and shard = 1`;
    expect(row).toEqual({ state: "failed", error_code: "message_poisoned" });
  });

  test("succeeds after all when the failed shard is sent again and done", async () => {
    const run = await startRun([{ shard: 1, pending: 1 }]);
    await report(run, 1, "failed", "message_poisoned");
    expect(await report(run, 1, "done")).toMatchObject({ run: "succeeded", finished: true });
    const [row] =
      await world.sql`select error_code from worker.usage_run_shards where run_id = ${run}`;
    expect(row).toEqual({ error_code: null });
  });

  test("never goes back: a late report of a done shard changes no state", async () => {
    const run = await startRun([{ shard: 1, pending: 1 }]);
    await report(run, 1, "done");
    await report(run, 1, "running");
    await report(run, 1, "failed", "late");
    expect(await readRun(run)).toMatchObject({
      status: "succeeded",
      shardsDone: 1,
      shardsFailed: 0,
    });
  });

  test("of many shards that end at the same time is finished by exactly one report", async () => {
    const shards = Array.from({ length: 20 }, (_, shard) => ({ shard, pending: 1 }));
    const run = await startRun(shards);
    const answers = await Promise.all(shards.map(({ shard }) => report(run, shard, "done")));
    expect(answers.filter(({ finished }) => finished === true)).toHaveLength(1);
    expect(await readRun(run)).toMatchObject({ status: "succeeded", shardsDone: 20 });
  });

  test("is finished by the later of two reports, even when both are under way at once", async () => {
    const run = await startRun([
      { shard: 1, pending: 1 },
      { shard: 2, pending: 1 },
    ]);
    const { second } = await world.sql.begin(async (transaction) => {
      const first = { p_run: run, p_shard: 1, p_state: "done" };
      await world.call("usage_report_shard", first, transaction as never);
      const pending = report(run, 2, "done");
      pending.catch(() => undefined); // its answer is looked at below
      await expect.poll(() => waitingLocks(world.sql)).toBe(1);
      return { second: pending };
    });
    expect(await second).toEqual({ status: "ok", run: "succeeded", finished: true });
  });

  test("or shard that nobody planned is unknown", async () => {
    const run = await startRun([{ shard: 1, pending: 1 }]);
    expect(await report(run, 2, "done")).toEqual({ status: "unknown" });
    expect(await report(randomUUID(), 1, "done")).toEqual({ status: "unknown" });
    expect(await readRun(randomUUID())).toBeNull();
  });

  test("takes no other state than running, failed or done", async () => {
    const run = await startRun([{ shard: 1, pending: 1 }]);
    await expect(report(run, 1, "planned")).rejects.toMatchObject({ code: "UL001" });
  });
});

describe("the list of runs", () => {
  test("is bounded and starts with the newest, which is also what no name asks for", async () => {
    await startRun([]);
    const newest = await startRun([]);
    const two = await world.call<Answer[]>("usage_read_runs", { p_limit: 2 });
    expect(two).toHaveLength(2);
    expect(two[0]).toMatchObject({ runId: newest });
    expect(await readRun(null)).toMatchObject({ runId: newest });
    expect(await world.call<Answer[]>("usage_read_runs", { p_limit: -1 })).toHaveLength(1);
  });
});

describe("the scheduler", () => {
  test("of a job that never ran knows when the service was installed", async () => {
    expect(await world.call("usage_read_scheduler", { p_job: "never" })).toEqual({
      installedAt: expect.any(String),
      lastStartedAt: null,
      lastFinishedAt: null,
      lastStatus: null,
    });
  });

  test("tells the last start, the last end and how it stands", async () => {
    const job = `job-${randomUUID()}`;
    const finished = await startRun([], job);
    const open = await startRun([{ shard: 1, pending: 1 }], job);
    const [first, second] = await Promise.all([readRun(finished), readRun(open)]);
    expect(await world.call("usage_read_scheduler", { p_job: job })).toMatchObject({
      lastStartedAt: second?.["startedAt"],
      lastFinishedAt: first?.["finishedAt"],
      lastStatus: "planned",
    });
  });
});
