import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { eventPruner } from "../../src/lib/usage/audit-ledger.supabase.ts";
import { type EventPruner, pruneEvents } from "../../src/lib/usage/prune-events.ts";
import { testRun } from "../support/test-run.ts";
import { type AuditWorld, openAuditWorld } from "./audit-world.ts";
import type { LedgerShard } from "./sql/ledger-world.ts";

let world: AuditWorld;
let crowd: Sql;
beforeAll(async () => {
  world = await openAuditWorld();
  crowd = postgres(world.ledger.database.url, { max: 20, onnotice: () => {} });
});
afterAll(async () => {
  await crowd.end({ timeout: 1 });
  await world.close();
});

const DAY_MS = 86_400_000;
const RETAIN_DAYS = 90;
const signal = new AbortController().signal;
const daysAgo = (days: number): number => Math.floor(Date.now() / DAY_MS) - days;
const dateOf = (day: number): string => new Date(day * DAY_MS).toISOString().slice(0, 10);
const BEFORE = dateOf(daysAgo(RETAIN_DAYS));

/** Days that no other test of the file uses, older than the retention. */
let used = 100;
const oldDay = (): number => {
  used += 1;
  return daysAgo(used);
};
const makeDay = (day: number) =>
  world.ledger.call<number>("usage_ensure_days", { p_from: dateOf(day), p_to: dateOf(day) });
const prune = (day: number, before = BEFORE, on?: Sql) =>
  world.ledger.call("usage_prune_day", { p_day: dateOf(day), p_before: before }, on);
const eventsOf = async (shard: LedgerShard): Promise<number> => {
  const [row] = await world.sql`
    select count(*)::int as events from worker.usage_events where tenant like ${`${shard.tenant}%`}`;
  return Number(row?.["events"]);
};

/** A month whose uses lie on an old day and on a recent one. */
async function openMonth() {
  const period = world.nextPeriod();
  const [old, recent] = [oldDay(), daysAgo(5)];
  await makeDay(old);
  const shard = await world.openShard();
  for (const day of [old, recent]) {
    for (const tokens of [10n, 20n]) shard.record({ period, day, tokens });
    shard.record({ period, day, tenant: `${shard.tenant}-neighbour`, tokens: 1000n });
    await shard.apply();
  }
  return { period, shard, tenant: shard.tenant, old };
}

describe("dropping a day", () => {
  test("records what it held by tenant and month, in the same transaction", async () => {
    const { period, shard, tenant, old } = await openMonth();
    expect(await prune(old)).toEqual({
      status: "pruned",
      events: 3,
      tenants: 2,
      tokens: "1030",
    });
    expect(await eventsOf(shard)).toBe(3);
    const rows = await world.sql`
      select tenant, shard, tokens, events from worker.usage_pruned where period = ${period} order by tenant`;
    expect(rows).toEqual([
      { tenant, shard: shard.shard, tokens: "30", events: "2" },
      { tenant: `${tenant}-neighbour`, shard: shard.shard, tokens: "1000", events: "1" },
    ]);
    expect(await prune(old)).toEqual({ status: "absent" });
  });

  test("is no finding of an audit, before, between and after", async () => {
    const { period, old } = await openMonth();
    const [other] = [oldDay()];
    expect(await world.audit(period)).toEqual([]);
    await prune(old);
    expect(await world.audit(period)).toEqual([]);
    expect(await prune(other)).toEqual({ status: "absent" });
    const [audit] = await world.sql`
      select used::text, found::text, pruned::text from worker.usage_audits
       where period = ${period} order by started_at desc limit 1`;
    expect(audit).toEqual({ used: "2060", found: "2060", pruned: "1030" });
  });

  test("adds to what earlier days of the month left", async () => {
    const period = world.nextPeriod();
    const shard = await world.openShard();
    const days = [oldDay(), oldDay(), oldDay()];
    for (const day of days) {
      await makeDay(day);
      shard.record({ period, day, tokens: 7n });
    }
    await shard.apply();
    for (const day of days) await prune(day);
    const [row] = await world.sql`
      select tokens, events from worker.usage_pruned where period = ${period}`;
    expect(row).toEqual({ tokens: "21", events: "3" });
    expect(await world.audit(period)).toEqual([]);
  });

  test("takes days that never had a partition, too", async () => {
    const period = world.nextPeriod();
    const shard = await world.openShard();
    const day = oldDay();
    shard.record({ period, day, tokens: 7n });
    await shard.apply();
    const days = await world.ledger.call<string[]>("usage_prunable_days", { p_before: BEFORE });
    expect(days).toContain(dateOf(day));
    expect(await prune(day)).toMatchObject({ status: "pruned", events: 1 });
    expect(await eventsOf(shard)).toBe(0);
    expect(await world.audit(period)).toEqual([]);
  });

  test("leaves days within the retention, and the last forty whatever the retention says", async () => {
    const shard = await world.openShard();
    for (const days of [41, 40, 2]) {
      await makeDay(daysAgo(days));
      shard.record({ day: daysAgo(days) });
    }
    await shard.apply();
    expect(await prune(daysAgo(41))).toEqual({ status: "kept" });
    const tomorrow = dateOf(daysAgo(-1));
    for (const days of [40, 2]) {
      expect(await prune(daysAgo(days), tomorrow)).toEqual({ status: "kept" });
    }
    expect(await eventsOf(shard)).toBe(3);
  });

  test("that is rolled back leaves the events and no record", async () => {
    const { period, shard, old } = await openMonth();
    const attempt = crowd.begin(async (sql) => {
      await world.ledger.call(
        "usage_prune_day",
        { p_day: dateOf(old), p_before: BEFORE },
        sql as never,
      );
      throw new Error("killed");
    });
    await expect(attempt).rejects.toThrow("killed");
    expect(await eventsOf(shard)).toBe(6);
    expect(await world.sql`select 1 from worker.usage_pruned where period = ${period}`).toEqual([]);
  });

  test("by many at once happens once", async () => {
    const { period, old } = await openMonth();
    const answers = await Promise.all(
      Array.from({ length: 6 }, () =>
        prune(old, BEFORE, crowd).catch(({ code }: { code: string }) => ({ status: code })),
      ),
    );
    expect(answers.filter(({ status }) => status === "pruned")).toHaveLength(1);
    expect(await world.audit(period)).toEqual([]);
  });

  test("waits for a use that is being booked into it, and takes it along or gives up", async () => {
    const { period, shard, old } = await openMonth();
    shard.record({ period, day: old, tokens: 5n });
    const mayCommit = Promise.withResolvers<void>();
    const booked = Promise.withResolvers<void>();
    const booking = crowd.begin(async (sql) => {
      await world.ledger.call("usage_apply_batch", shard.batch(6), sql as never);
      booked.resolve();
      await mayCommit.promise;
    });
    await booked.promise;
    await expect(prune(old, BEFORE, crowd)).rejects.toMatchObject({ code: "55P03" });
    mayCommit.resolve();
    await booking;
    expect(await prune(old)).toMatchObject({ status: "pruned", events: 4 });
    expect(await world.audit(period)).toEqual([]);
  });

  test("while the month is audited is never a finding", async () => {
    const period = world.nextPeriod();
    const shards = await Promise.all(Array.from({ length: 4 }, () => world.openShard()));
    const days = Array.from({ length: 12 }, oldDay);
    for (const day of days) {
      await makeDay(day);
      for (const shard of shards) shard.record({ period, day, tokens: 11n });
    }
    for (const shard of shards) await shard.apply();
    let isPruning = true;
    const pruning = (async () => {
      for (const day of days) {
        for (let attempt = 0; attempt < 20; attempt += 1) {
          const done = await prune(day, BEFORE, crowd).then(
            () => true,
            ({ code }) => code !== "55P03",
          );
          if (done) break;
        }
      }
      isPruning = false;
    })();
    let audits = 0;
    while (isPruning || audits < 3) {
      expect(await world.audit(period)).toEqual([]);
      audits += 1;
    }
    await pruning;
    const [left] = await world.sql`
      select events::int from worker.usage_pruned where period = ${period} limit 1`;
    expect(left).toEqual({ events: 12 });
  });
});

describe("in a month of which a part was dropped", () => {
  const cases = [
    [
      "a total that was edited",
      ({ tenant }: { tenant: string }) =>
        world.sql`update worker.usage_totals set tokens = tokens + 7 where tenant = ${tenant}`,
      "total_edited_outside_ledger",
      "7",
    ],
    [
      "a ledger row that was edited",
      ({ tenant }: { tenant: string }) =>
        world.sql`update worker.usage_ledger set tokens = tokens - 3 where tenant = ${tenant} and tokens = 30
                   and id = (select min(id) from worker.usage_ledger where tenant = ${tenant})`,
      "ledger_edited",
      "-3",
    ],
    [
      "an event that was deleted",
      ({ tenant }: { tenant: string }) =>
        world.sql`delete from worker.usage_events where tenant = ${tenant} and tokens = 20`,
      "events_missing",
      "20",
    ],
    [
      "an event that nobody booked",
      ({ tenant, period }: { tenant: string; period: number }) => world.sql`
        insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
        values (${dateOf(daysAgo(5))}, ${period}, 500, 0, gen_random_uuid(), ${tenant}, 'llm', '')`,
      "events_not_booked",
      "-500",
    ],
    [
      "a record of what was dropped that was edited",
      ({ tenant }: { tenant: string }) =>
        world.sql`update worker.usage_pruned set tokens = tokens - 4 where tenant = ${tenant}`,
      "events_edited",
      "4",
    ],
  ] as const;

  test.each(cases)("%s is still named with its exact amount", async (_, inject, cause, tokens) => {
    const month = await openMonth();
    await prune(month.old);
    await inject(month);
    expect(await world.differences(month.period)).toEqual([[month.tenant, cause, tokens]]);
  });
});

describe("the pruning of the monthly job", () => {
  let pruner: EventPruner;
  let close: () => Promise<void>;
  beforeAll(async () => {
    const { url, key } = await world.ledger.database.supabase();
    const api = createRpc({ url, key });
    pruner = eventPruner(api.rpc);
    close = api.close;
  });
  afterAll(() => close());

  const deps = (now: () => number) => ({
    clock: { now },
    eventPruner: pruner,
    usageConfig: { eventRetainDays: RETAIN_DAYS },
  });

  test("drops every old day, and a second run finds nothing", async () => {
    const { period } = await openMonth();
    const run = testRun();
    expect(await pruneEvents(deps(Date.now), Number.POSITIVE_INFINITY, run)).toBe(true);
    expect(run.notes["prunedDays"]).toBeGreaterThanOrEqual(1);
    const again = testRun();
    expect(await pruneEvents(deps(Date.now), Number.POSITIVE_INFINITY, again)).toBe(true);
    expect(again.notes["prunedDays"]).toBeUndefined();
    expect(await pruner.days(BEFORE, 10, signal)).toEqual([]);
    expect(await world.audit(period)).toEqual([]);
  });

  test("stops when its time is over and says that some is left", async () => {
    await openMonth();
    await openMonth();
    const start = Date.now();
    let looks = 0;
    const now = () => start + (looks++ > 1 ? 1000 : 0);
    expect(await pruneEvents(deps(now), start + 1000, testRun())).toBe(false);
    expect(await pruner.days(BEFORE, 10, signal)).toHaveLength(1);
    expect(await pruneEvents(deps(Date.now), Number.POSITIVE_INFINITY, testRun())).toBe(true);
  });

  test("deletes old rows in bounded pieces and keeps what is needed", async () => {
    const shard = await world.openShard();
    for (let i = 0; i < 3; i += 1) {
      shard.record();
      await shard.apply();
    }
    await world.sql`
      update worker.usage_batches set applied_at = now() - interval '500 days' where shard = ${shard.shard}`;
    const old = Date.now() - 400 * DAY_MS;
    expect(await pruner.pruneRows("batches", old, 1, signal)).toBe(1);
    expect(await pruner.pruneRows("batches", old, 100, signal)).toBe(1);
    const left =
      await world.sql`select from_n from worker.usage_batches where shard = ${shard.shard}`;
    expect(left).toEqual([{ from_n: "3" }]); // says what may be trimmed

    await shard.fork();
    await shard.fork();
    await world.sql`
      update worker.usage_lineages set ended_at = now() - interval '500 days' where shard = ${shard.shard}`;
    await pruner.pruneRows("lineages", old, 100, signal);
    expect(
      await world.sql`select fork from worker.usage_lineages where shard = ${shard.shard}`,
    ).toHaveLength(1);

    const current = { shard: shard.shard, inc: shard.inc(), n: 1, cum: "1", count: 1 };
    const gone = { ...current, inc: "gone" };
    await world.ledger.call("usage_observe_shards", { p_observations: [current, gone] });
    await world.sql`
      update worker.usage_observations set observed_at = now() - interval '500 days' where shard = ${shard.shard}`;
    await pruner.pruneRows("observations", old, 100, signal);
    expect(
      await world.sql`select inc from worker.usage_observations where shard = ${shard.shard}`,
    ).toEqual([{ inc: shard.inc() }]);
  });

  test("deletes old audits only after their findings", async () => {
    const { period, tenant } = await openMonth();
    await world.sql`update worker.usage_totals set tokens = tokens + 1 where tenant = ${tenant}`;
    await world.audit(period);
    await world.sql`update worker.usage_audits set started_at = now() - interval '900 days'`;
    const old = Date.now() - 800 * DAY_MS;
    await pruner.pruneRows("audits", old, 10_000, signal);
    expect(await world.sql`select 1 from worker.usage_audits`).not.toHaveLength(0);
    while ((await pruner.pruneRows("audit_findings", old, 2, signal)) === 2);
    await pruner.pruneRows("audits", old, 10_000, signal);
    expect(await world.sql`select 1 from worker.usage_audits`).toHaveLength(0);
  });

  test.each(["runs", "drifts", "repairs"] as const)("may delete old %s", async (kind) => {
    expect(await pruner.pruneRows(kind, Date.now(), 10, signal)).toBe(0);
  });
});
