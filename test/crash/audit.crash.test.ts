import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { alertLedger } from "../../src/lib/ops/alerts.supabase.ts";
import { createAlerts } from "../../src/lib/ops/alerts.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import {
  auditLedger,
  auditStarts,
  eventPruner,
  periodLedger,
} from "../../src/lib/usage/audit-ledger.supabase.ts";
import type { AuditMessage } from "../../src/lib/usage/audit-message.ts";
import { type AuditDeps, auditPeriod } from "../../src/lib/usage/audit-period.ts";
import { startAudit, startMonthlyAudit } from "../../src/lib/usage/audit-start.ts";
import { type ClosePeriodDeps, closeDuePeriods } from "../../src/lib/usage/close-period.ts";
import { usageFacts } from "../../src/lib/usage/usage-alerts.supabase.ts";
import { raiseUsageAlerts } from "../../src/lib/usage/usage-alerts.ts";
import { periodOf } from "../../src/lib/usage/usage-keys.ts";
import { failCalls, Killed, type Saboteur } from "../support/failing-calls.ts";
import { testRun } from "../support/test-run.ts";
import { openUsageWorld, type UsageWorld } from "../support/usage-world.ts";

/**
 * The monthly job, the closing of months and the alerts die before and after every single call they make, and run again.
 * However they died, audits, months, events and alerts end equal to those of a run that was never disturbed.
 */
type Deps = AuditDeps & ClosePeriodDeps;

let world: UsageWorld;
let api: ReturnType<typeof createRpc>;
const queue: AuditMessage[] = [];
const time = { now: Date.now() };
let deps: Deps;

beforeAll(async () => {
  world = await openUsageWorld();
  const { url, key } = await world.database.supabase();
  api = createRpc({ url, key });
  const clock = { now: () => time.now };
  deps = {
    clock,
    shardHeads: world.deps.shardHeads,
    periodLedger: periodLedger(api.rpc),
    auditStarts: auditStarts(api.rpc),
    auditLedger: auditLedger(api.rpc),
    auditQueue: { send: async (message) => void queue.push(message) },
    eventPruner: eventPruner(api.rpc),
    usageFacts: usageFacts(api.rpc),
    alerts: createAlerts({ clock, alertLedger: alertLedger(api.rpc), log: testRun().log }),
    usageConfig: {
      periodGraceHours: 72,
      eventRetainDays: 90,
      sliceMs: 60_000,
      alertThreshold: 1000,
      criticalThreshold: 5000,
      isTrackingEnabled: true,
      dailySchedule: "0 2 * * *",
    },
  };
});
afterAll(async () => {
  await api.close();
  await world.close();
});

const sabotage = (saboteur: Saboteur): Deps => ({
  ...deps,
  shardHeads: saboteur.wrap(deps.shardHeads),
  periodLedger: saboteur.wrap(deps.periodLedger),
  auditStarts: saboteur.wrap(deps.auditStarts),
  auditLedger: saboteur.wrap(deps.auditLedger),
  auditQueue: saboteur.wrap(deps.auditQueue),
  eventPruner: saboteur.wrap(deps.eventPruner),
  usageFacts: saboteur.wrap(deps.usageFacts),
  alerts: saboteur.wrap(deps.alerts),
});

const CALLS_MAX = 60;
/** Each test runs its scene once for every call. */
const TIMEOUT_MS = 120_000;

/** Runs `scene` once for every call that its work makes, killed there; `scene` prepares, runs and checks. */
async function killEverywhere(
  when: "before" | "after",
  scene: (run: (work: (deps: Deps) => Promise<void>) => Promise<boolean>) => Promise<void>,
): Promise<number> {
  for (let call = 1; call <= CALLS_MAX; call += 1) {
    const saboteur = failCalls(call, when);
    let wasKilled = false;
    await scene(async (work) => {
      try {
        await work(sabotage(saboteur));
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
        wasKilled = true;
      }
      return wasKilled;
    });
    if (!wasKilled) return call - 1;
  }
  throw new Error(`more than ${CALLS_MAX} calls`);
}

/** Every message until the queue is empty; one whose handler was killed comes again, undisturbed. */
async function workOff(
  run: (work: (deps: Deps) => Promise<void>) => Promise<boolean>,
): Promise<void> {
  let wasKilled = false;
  for (let i = 0; i < 100 && queue.length > 0; i += 1) {
    const message = queue.shift();
    if (message === undefined) return;
    if (wasKilled) await auditPeriod(deps, message, testRun());
    else if (await run((own) => auditPeriod(own, message, testRun()))) {
      wasKilled = true;
      queue.push(message);
    }
  }
  expect(queue).toEqual([]);
}

const DAY_MS = 86_400_000;
let months = 0;
/** A month far away with a use on an old day, one on a recent day, and a total that somebody edited. */
async function brokenMonth(): Promise<{ period: number; tenant: string; oldDay: string }> {
  months += 1;
  const period = (2040 + Math.floor(months / 12)) * 100 + (months % 12) + 1;
  const tenant = randomUUID();
  const { sql } = world.database;
  const oldDay = new Date(Date.now() - (100 + months) * DAY_MS).toISOString().slice(0, 10);
  const recent = new Date(Date.now() - 5 * DAY_MS).toISOString().slice(0, 10);
  await sql`select worker.usage_ensure_days(${oldDay}, ${oldDay})`;
  const [batch] = await sql`
    insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens)
    values (${months % 256}, 9000, ${tenant}, ${months}, ${months}, 2, 2, 0, 0, 0, 30) returning batch_id`;
  const id = String(batch?.["batch_id"]);
  for (const [day, tokens] of [
    [oldDay, 10],
    [recent, 20],
  ] as const) {
    await sql`
      insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
      values (${day}, ${period}, ${tokens}, ${id}, gen_random_uuid(), ${tenant}, 'llm', '')`;
  }
  await sql`
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, tokens, events, reason)
    values (${id}, ${tenant}, ${period}, ${period}, 30, 2, 'usage')`;
  await sql`
    insert into worker.usage_totals (tenant, period, tokens, events, shard)
    values (${tenant}, ${period}, 9030, 2, ${months % 256})`;
  return { period, tenant, oldDay };
}

/** Everything that must hold of an audited month, whatever happened before. */
async function expectAudited(
  key: string,
  month: { period: number; tenant: string },
): Promise<void> {
  const { sql } = world.database;
  const [audit] = await sql`
    select audit_id, status, next_shard, tenants::int, total::text, ledger::text, used::text, found::text,
           differences::int from worker.usage_audits where key = ${key}`;
  expect(audit).toMatchObject({
    status: "succeeded",
    next_shard: 65_536,
    tenants: 1,
    total: "9030",
    ledger: "30",
    used: "30",
    found: "30",
    differences: 1,
  });
  const findings = await sql`
    select tenant, cause, tokens::text from worker.usage_audit_findings
     where audit_id = ${String(audit?.["audit_id"])}`;
  expect(findings).toEqual([
    { tenant: month.tenant, cause: "total_edited_outside_ledger", tokens: "9000" },
  ]);
  const alertKey = `usage_drift:${month.period}:total_edited_outside_ledger:${month.tenant}`;
  const notices = await sql`
    select n.reason from worker.alert_notices n join worker.alerts a on a.id = n.alert_id
     where a.key = ${alertKey}`;
  expect(notices).toEqual([{ reason: "new" }]);
}

describe.each(["before", "after"] as const)("killed %s a call", { timeout: TIMEOUT_MS }, (when) => {
  test("an audit ends with the same findings, sums and alerts", async () => {
    const calls = await killEverywhere(when, async (run) => {
      const month = await brokenMonth();
      const key = randomUUID();
      const order = { key, period: month.period, trigger: "manual", who: "test" } as const;
      const start = async (own: Deps) => void (await startAudit(own, order, testRun()));
      if (await run(start)) await start(deps);
      // As many pieces as make it interesting.
      for (const [i, message] of queue.entries()) queue[i] = { ...message, width: 100 };
      await workOff(run);
      await expectAudited(key, month);
      await world.database.sql`delete from worker.usage_totals where tenant = ${month.tenant}`;
    });
    expect(calls).toBeGreaterThan(7);
  });

  test("the monthly job audits once and drops what is old, with a record", async () => {
    const calls = await killEverywhere(when, async (run) => {
      const month = await brokenMonth();
      time.now = Date.UTC(Math.floor(month.period / 100), month.period % 100, 1, 4);
      const key = `monthly:${month.period}:${new Date(time.now).toISOString().slice(0, 10)}`;
      const start = (own: Deps) => startMonthlyAudit(own, testRun());
      if (await run(start)) await start(deps);
      // Days count from the real clock, as the database does.
      time.now = Date.now();
      await workOff(run);
      await expectAudited(key, month);
      const { sql } = world.database;
      const pruned = await sql`
        select tokens::text, events::int from worker.usage_pruned where tenant = ${month.tenant}`;
      expect(pruned).toEqual([{ tokens: "10", events: 1 }]);
      const events = await sql`
        select tokens::int from worker.usage_events where tenant = ${month.tenant}`;
      expect(events).toEqual([{ tokens: 20 }]);
      const days = await sql`select 1 from worker.usage_pruned_days where day = ${month.oldDay}`;
      expect(days).toHaveLength(1);
      await sql`delete from worker.usage_totals where tenant = ${month.tenant}`;
    });
    expect(calls).toBeGreaterThan(10);
  });

  test("a month is closed once, sealed, and audited", async () => {
    const { sql } = world.database;
    const tenant = randomUUID();
    await world.record({ tenant, tokens: 5 });
    await world.reconcile();
    await sql`delete from worker.usage_periods`;
    let period = periodOf(Date.now());
    const calls = await killEverywhere(when, async (run) => {
      time.now = Date.UTC(Math.floor(period / 100), period % 100, 5);
      const close = (own: Deps) => closeDuePeriods(own, testRun());
      if (await run(close)) await close(deps);
      const [month] = await sql`
        select state, closed_by, sealed_at is not null as sealed, checksum from worker.usage_periods where period = ${period}`;
      expect(month).toMatchObject({ state: "closed", closed_by: "test", sealed: true });
      expect(month?.["checksum"]).toMatch(/^[0-9a-f]{64}$/);
      const audits = await sql`
        select audit_id::text as id from worker.usage_audits where key = ${`close:${period}`}`;
      expect(audits).toHaveLength(1);
      expect(queue.map(({ auditId }) => auditId)).toContain(audits[0]?.["id"]);
      queue.length = 0;
      await sql`delete from worker.usage_audits where key = ${`close:${period}`}`;
      period = period % 100 === 12 ? period + 89 : period + 1;
    });
    expect(calls).toBeGreaterThan(6);
    time.now = Date.now();
  });

  test("every alert is told once", async () => {
    const { sql } = world.database;
    const calls = await killEverywhere(when, async (run) => {
      await sql`delete from worker.alerts`;
      await sql`delete from worker.usage_gaps`;
      await sql`
        insert into worker.usage_gaps (shard, inc, from_n, to_n, tokens_lost, cause)
        values (1, 'x', 1, 2, 5, 'redis_rewind'), (2, 'x', 1, 2, -5, 'redis_rewind')`;
      const raise = (own: Deps) => raiseUsageAlerts(own, testRun());
      if (await run(raise)) await raise(deps);
      const notices = await sql`
        select a.key, n.reason from worker.alert_notices n join worker.alerts a on a.id = n.alert_id
         where a.kind = 'usage_loss' order by a.key`;
      expect(notices).toEqual([
        { key: "usage_loss:1", reason: "new" },
        { key: "usage_loss:2", reason: "new" },
      ]);
    });
    expect(calls).toBeGreaterThanOrEqual(3);
    await sql`delete from worker.usage_gaps`;
  });
});
