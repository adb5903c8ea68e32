import { randomUUID } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { transient } from "../../src/lib/kernel/errors.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import {
  auditLedger,
  auditStarts,
  eventPruner,
} from "../../src/lib/usage/audit-ledger.supabase.ts";
import { type AuditMessage, AuditMessageSchema } from "../../src/lib/usage/audit-message.ts";
import { type AuditDeps, type AuditLedger, auditPeriod } from "../../src/lib/usage/audit-period.ts";
import { type AuditOrder, startAudit, startMonthlyAudit } from "../../src/lib/usage/audit-start.ts";
import type { ShardRange } from "../../src/lib/usage/plan-audit.ts";
import { settlePoisonedAudit } from "../../src/lib/usage/settle-poisoned-audit.ts";
import { usageFacts } from "../../src/lib/usage/usage-alerts.supabase.ts";
import { testRun } from "../support/test-run.ts";
import { type AuditWorld, openAuditWorld } from "./audit-world.ts";

/** The audit as its queue runs it: in slices, over the real API, on real Postgres. */
let world: AuditWorld;
let api: ReturnType<typeof createRpc>;
let crowd: Sql;
const queue: { message: AuditMessage; delaySeconds: number }[] = [];
const time = { now: Date.now() };
let deps: AuditDeps;
beforeAll(async () => {
  world = await openAuditWorld();
  const { url, key } = await world.ledger.database.supabase();
  api = createRpc({ url, key });
  crowd = postgres(world.ledger.database.url, { max: 20, onnotice: () => {} });
  deps = {
    clock: { now: () => time.now },
    auditLedger: auditLedger(api.rpc),
    auditQueue: {
      send: async (message, delaySeconds) => void queue.push({ message, delaySeconds }),
    },
    eventPruner: eventPruner(api.rpc),
    usageFacts: usageFacts(api.rpc),
    alerts: { raise: async () => {}, resolve: async () => {} },
    usageConfig: {
      sliceMs: 60_000,
      eventRetainDays: 90,
      alertThreshold: 1000,
      criticalThreshold: 5000,
      isTrackingEnabled: true,
      dailySchedule: "0 2 * * *",
    },
  };
});
afterAll(async () => {
  await api.close();
  await crowd.end({ timeout: 1 });
  await world.close();
});
beforeEach(() => {
  queue.length = 0;
  time.now = Date.now();
});

const starts = () => ({ auditStarts: auditStarts(api.rpc), auditQueue: deps.auditQueue });
const order = (period: number, parts: Partial<AuditOrder> = {}): AuditOrder => ({
  key: randomUUID(),
  period,
  trigger: "manual",
  who: "test",
  ...parts,
});

/** Starts an audit and takes its message out of the queue. */
async function begun(period: number, parts: Partial<AuditOrder> = {}): Promise<AuditMessage> {
  await startAudit(starts(), order(period, parts), testRun());
  const sent = queue.shift()?.message;
  return AuditMessageSchema.parse(JSON.parse(JSON.stringify(sent)));
}

const statusOf = async (auditId: string) => {
  const [row] = await world.sql`
    select status, next_shard, chunks, error_code from worker.usage_audits where audit_id = ${auditId}`;
  return row;
};

/** The ledger, with every range it was asked for. */
function watched(compare: AuditLedger["compare"] = deps.auditLedger.compare) {
  const ranges: ShardRange[] = [];
  const ledger: AuditLedger = {
    ...deps.auditLedger,
    compare: (auditId, range, signal) => {
      ranges.push(range);
      return compare(auditId, range, signal);
    },
  };
  return { ranges, deps: { ...deps, auditLedger: ledger } };
}

describe("an audit", () => {
  test("of an estimate of few rows is one call", async () => {
    const message = await begun(world.nextPeriod());
    expect(message).toMatchObject({ phase: "audit", prunes: false, nextShard: 0, width: 256 });
    const { ranges, deps: own } = watched();
    await auditPeriod(own, message, testRun());
    expect(ranges).toEqual([{ from: 0, to: 65_535 }]);
    expect(queue).toEqual([]);
    expect(await statusOf(message.auditId)).toMatchObject({ status: "succeeded", chunks: 1 });
  });

  test("takes less when its calls are slow and more when they are fast", async () => {
    const message = { ...(await begun(world.nextPeriod())), width: 40 };
    const durations = [12_000, 12_000, 100, 100, 100];
    const { ranges, deps: own } = watched(async (auditId, range, signal) => {
      const reply = await deps.auditLedger.compare(auditId, range, signal);
      time.now += durations.shift() ?? 100;
      return reply;
    });
    await auditPeriod(own, message, testRun());
    const widths = ranges.map(({ from, to }) => Math.min(to, 255) - from + 1);
    expect(widths).toEqual([40, 20, 10, 20, 40, 80, 46]);
  });

  test("hands on to its continuation when its slice is over", async () => {
    const message = { ...(await begun(world.nextPeriod())), width: 100 };
    const { deps: own } = watched(async (auditId, range, signal) => {
      const reply = await deps.auditLedger.compare(auditId, range, signal);
      time.now += 35_000;
      return reply;
    });
    await auditPeriod(own, message, testRun());
    expect(queue).toMatchObject([
      { message: { auditId: message.auditId, nextShard: 150, part: 1 }, delaySeconds: 0 },
    ]);
    const next = queue.shift()?.message;
    if (next) await auditPeriod(deps, next, testRun());
    expect(await statusOf(message.auditId)).toMatchObject({ status: "succeeded" });
  });

  test("tries fewer shards when the database gives a call up for its time", async () => {
    const message = { ...(await begun(world.nextPeriod())), width: 256 };
    const timeout = transient("database_unavailable", { sqlstate: "57014" });
    const { ranges, deps: own } = watched(async (auditId, range, signal) => {
      if (Math.min(range.to, 255) - range.from > 70) throw timeout;
      return deps.auditLedger.compare(auditId, range, signal);
    });
    await auditPeriod(own, message, testRun());
    expect(ranges.slice(0, 3)).toEqual([
      { from: 0, to: 65_535 },
      { from: 0, to: 127 },
      { from: 0, to: 63 },
    ]);
    expect(await statusOf(message.auditId)).toMatchObject({ status: "succeeded" });
    await expect(
      auditPeriod(
        watched(() => Promise.reject(timeout)).deps,
        { ...(await begun(world.nextPeriod())), width: 4 },
        testRun(),
      ),
    ).rejects.toBe(timeout);
  });

  test("leaves any other error to the queue, and goes on where it was", async () => {
    const message = { ...(await begun(world.nextPeriod())), width: 100 };
    let calls = 0;
    const { deps: own } = watched(async (auditId, range, signal) => {
      calls += 1;
      if (calls === 2) throw transient("database_unavailable", { code: "ECONNRESET" });
      return deps.auditLedger.compare(auditId, range, signal);
    });
    await expect(auditPeriod(own, message, testRun())).rejects.toMatchObject({
      code: "database_unavailable",
    });
    expect(await statusOf(message.auditId)).toMatchObject({ status: "running", next_shard: 100 });
    await auditPeriod(deps, message, testRun()); // the same message again
    expect(await statusOf(message.auditId)).toMatchObject({ status: "succeeded" });
  });

  test("of which two workers are at it is done once", async () => {
    const period = world.nextPeriod();
    const shard = await world.openShard();
    shard.record({ period });
    await shard.apply();
    await world.sql`update worker.usage_totals set tokens = 1 where tenant = ${shard.tenant}`;
    const message = { ...(await begun(period)), width: 30 };
    await Promise.all([1, 2, 3].map(() => auditPeriod(deps, message, testRun())));
    for (const { message: again } of queue.splice(0)) await auditPeriod(deps, again, testRun());
    expect(await statusOf(message.auditId)).toMatchObject({ status: "succeeded" });
    const findings = await world.sql`
      select tenant from worker.usage_audit_findings where audit_id = ${message.auditId}`;
    expect(findings).toEqual([{ tenant: shard.tenant }]);
  });

  test("that somebody else is at comes again later", async () => {
    const message = await begun(world.nextPeriod());
    const mayEnd = Promise.withResolvers<void>();
    const isHeld = Promise.withResolvers<void>();
    const holding = crowd.begin(async (sql) => {
      await sql`select 1 from worker.usage_audits where audit_id = ${message.auditId} for update`;
      isHeld.resolve();
      await mayEnd.promise;
    });
    await isHeld.promise;
    await auditPeriod(deps, message, testRun());
    expect(queue).toMatchObject([{ message: { part: 1 }, delaySeconds: 30 }]);
    mayEnd.resolve();
    await holding;
  });

  test("that nobody knows is over at once", async () => {
    const message = { ...(await begun(world.nextPeriod())), auditId: randomUUID() };
    const run = testRun();
    await auditPeriod(deps, message, run);
    expect(queue).toEqual([]);
  });

  test("under traffic finds nothing that is not there", async () => {
    const period = world.nextPeriod();
    const shards = await Promise.all(Array.from({ length: 8 }, () => world.openShard()));
    for (const shard of shards) {
      for (let i = 0; i < 240; i += 1) {
        shard.record({ period, tenant: `${shard.tenant}-${i % 7}`, tokens: BigInt(i) });
      }
    }
    let isBooking = true;
    const booking = Promise.all(
      shards.map(async (shard) => {
        for (let from = 0; from < 240; from += 12) {
          const args = shard.batch(from, from + 12);
          await world.ledger.call("usage_apply_batch", args, crowd);
        }
      }),
    ).finally(() => {
      isBooking = false;
    });
    let audits = 0;
    while (isBooking || audits < 3) {
      expect(await world.audit(period, [3, 30])).toEqual([]);
      audits += 1;
    }
    await booking;
    expect(await world.audit(period, [3, 30])).toEqual([]); // the one before may have begun before the last booking
    const [sums] = await world.sql`
      select total::text, found::text, tenants::int from worker.usage_audits
       where period = ${period} order by started_at desc limit 1`;
    expect(sums).toEqual({ total: "229440", found: "229440", tenants: 56 });
  });
});

describe("the monthly job", () => {
  test("audits the month before, once a day", async () => {
    time.now = Date.parse("2041-01-01T04:00:00Z");
    const own = { ...starts(), clock: deps.clock };
    await startMonthlyAudit(own, testRun());
    await startMonthlyAudit(own, testRun());
    expect(queue).toHaveLength(2);
    expect(new Set(queue.map(({ message }) => message.auditId)).size).toBe(1);
    expect(queue[0]?.message).toMatchObject({ prunes: true });
    const [audit] = await world.sql`
      select period, trigger, requested_by from worker.usage_audits where key = 'monthly:204012:2041-01-01'`;
    expect(audit).toEqual({ period: 204_012, trigger: "timer", requested_by: "test" });
  });

  test("goes on with the dropping when the audit is done", async () => {
    const message = await begun(world.nextPeriod(), { trigger: "timer" });
    const slow = { ...deps.eventPruner, days: async () => ["2020-01-01", "2020-01-02"] };
    const pruneDay: typeof slow.pruneDay = async () => {
      time.now += 61_000;
      return { kind: "absent", events: 0 };
    };
    await auditPeriod({ ...deps, eventPruner: { ...slow, pruneDay } }, message, testRun());
    expect(await statusOf(message.auditId)).toMatchObject({ status: "succeeded" });
    expect(queue).toMatchObject([{ message: { phase: "prune", part: 1 } }]);
    const next = queue.shift()?.message;
    if (next) await auditPeriod(deps, next, testRun());
    expect(queue).toEqual([]);
  });
});

describe("a message that the platform gave up on", () => {
  test("ends its audit as failed, which goes on when it is asked for again", async () => {
    const asked = order(world.nextPeriod());
    await startAudit(starts(), asked, testRun());
    const message = queue.shift()?.message;
    const run = testRun();
    await settlePoisonedAudit(deps, message, run);
    expect(await statusOf(message?.auditId ?? "")).toMatchObject({
      status: "failed",
      error_code: "message_poisoned",
    });
    expect(run.lines).toMatchObject([{ level: "error", event: "usage_audit_failed" }]);
    await startAudit(starts(), asked, testRun());
    const again = queue.shift()?.message;
    if (again) await auditPeriod(deps, again, testRun());
    expect(await statusOf(message?.auditId ?? "")).toMatchObject({ status: "succeeded" });
  });

  test("leaves an audit that is done as it is", async () => {
    const message = await begun(world.nextPeriod());
    await auditPeriod(deps, message, testRun());
    await settlePoisonedAudit(deps, message, testRun());
    expect(await statusOf(message.auditId)).toMatchObject({
      status: "succeeded",
      error_code: null,
    });
  });

  test("that is none of ours is logged by its length only", async () => {
    const run = testRun();
    await settlePoisonedAudit(deps, { secret: "x" }, run);
    expect(run.lines).toMatchObject([
      { event: "usage_audit_message_unreadable", fields: { characters: 14 } },
    ]);
  });
});
