import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Alert, Alerts } from "../../src/lib/kernel/alerts.ts";
import { alertLedger } from "../../src/lib/ops/alerts.supabase.ts";
import { createAlerts } from "../../src/lib/ops/alerts.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { usageFacts } from "../../src/lib/usage/usage-alerts.supabase.ts";
import { raiseUsageAlerts, type UsageAlertDeps } from "../../src/lib/usage/usage-alerts.ts";
import { testRun } from "../support/test-run.ts";
import { type AuditWorld, openAuditWorld } from "./audit-world.ts";

/** The facts as Postgres tells them, judged and reported, and what an operator then sees. */
let world: AuditWorld;
let api: ReturnType<typeof createRpc>;
beforeAll(async () => {
  world = await openAuditWorld();
  const { url, key } = await world.ledger.database.supabase();
  api = createRpc({ url, key });
});
afterAll(async () => {
  await api.close();
  await world.close();
});

const HOUR_MS = 3_600_000;

function openDeps(parts: { alerts?: Alerts; isTrackingEnabled?: boolean } = {}): {
  deps: UsageAlertDeps;
  time: { now: number };
} {
  const time = { now: Date.now() };
  const clock = { now: () => time.now };
  const { log } = testRun();
  const real = createAlerts({ clock, alertLedger: alertLedger(api.rpc), log });
  const deps = {
    clock,
    usageFacts: usageFacts(api.rpc),
    alerts: parts.alerts ?? real,
    usageConfig: {
      alertThreshold: 1000,
      criticalThreshold: 5000,
      isTrackingEnabled: parts.isTrackingEnabled ?? true,
      dailySchedule: "0 * * * *",
    },
  };
  return { deps, time };
}

const openKeys = async (prefix: string): Promise<string[]> => {
  const rows = await world.sql`
    select key, level from worker.alerts where resolved_at is null and key like ${`${prefix}%`} order by key`;
  return rows.map((row) => `${row["level"]} ${row["key"]}`);
};

async function bookedTenant(): Promise<{ period: number; tenant: string }> {
  const period = world.nextPeriod();
  const shard = await world.openShard();
  shard.record({ period, tokens: 1_000_000n });
  await shard.apply();
  return { period, tenant: shard.tenant };
}

describe("judging the usage alerts", () => {
  test("reports what the newest audit found, and resolves it when the next one does not", async () => {
    const { period, tenant } = await bookedTenant();
    const { deps } = openDeps();
    const edit = (tokens: number) =>
      world.sql`update worker.usage_totals set tokens = ${tokens} where tenant = ${tenant}`;
    const prefix = `usage_drift:${period}`;
    const key = `${prefix}:total_edited_outside_ledger:${tenant}`;

    await edit(1_001_500);
    await world.audit(period);
    await raiseUsageAlerts(deps, testRun());
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys(prefix)).toEqual([`warning ${key}`]);

    await edit(1_000_700); // between half the threshold and the threshold
    await world.audit(period);
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys(prefix)).toEqual([`warning ${key}`]);

    await edit(1_000_400); // under half of it
    await world.audit(period);
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys(prefix)).toEqual([]);
  });

  test("sees an open gap and entries in quarantine, and that they are gone", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    const lost = shard.record({ tokens: 70n });
    shard.bad({ raw: randomUUID(), error: "format" });
    shard.record();
    shard.lose(lost.n);
    await shard.apply();
    const { deps } = openDeps();
    await raiseUsageAlerts(deps, testRun());
    const loss = `usage_loss:${shard.shard}`;
    expect(await openKeys(loss)).toEqual([`critical ${loss}`]);
    expect(await openKeys("usage_quarantine")).toEqual(["warning usage_quarantine"]);
    const [alert] = await world.sql`select value, evidence from worker.alerts where key = ${loss}`;
    expect(alert).toMatchObject({ value: "70", evidence: { tokens: "70", entries: "1" } });

    await world.sql`
      update worker.usage_gaps set recovered = tokens_lost, entries_recovered = entries_lost`;
    await world.sql`update worker.usage_quarantine set resolved_at = now(), resolution = 'discarded'`;
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_loss")).toEqual([]);
    expect(await openKeys("usage_quarantine")).toEqual([]);
  });

  test("sees shards that were planned and not visited for two intervals, and a visit", async () => {
    const [quiet, busy] = [await world.openShard(), await world.openShard()];
    const run = randomUUID();
    await world.ledger.call("usage_start_run", {
      p_run: run,
      p_job: "daily_reconciliation",
      p_trigger: "timer",
      p_shards: [quiet, busy].map(({ shard }) => ({ shard, pending: 5 })),
    });
    const { deps, time } = openDeps();
    time.now += HOUR_MS; // one interval
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_lag")).toEqual([]);

    busy.record();
    await busy.apply();
    time.now += 2 * HOUR_MS;
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_lag")).toEqual(["warning usage_lag"]);
    const [alert] = await world.sql`
      select evidence from worker.alerts where key = 'usage_lag' and resolved_at is null`;
    expect(alert).toMatchObject({ evidence: { shards: 1, sample: [quiet.shard] } });

    await world.ledger.call("usage_report_shard", {
      p_run: run,
      p_shard: quiet.shard,
      p_state: "done",
    });
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_lag")).toEqual([]);
  });

  test("hears silence, and the next record", async () => {
    const { deps, time } = openDeps();
    time.now += 25 * HOUR_MS;
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_silence")).toEqual(["warning usage_silence"]);
    time.now -= 24 * HOUR_MS;
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_silence")).toEqual([]);
  });

  test("says that tracking is off, and that it is on again", async () => {
    await raiseUsageAlerts(openDeps({ isTrackingEnabled: false }).deps, testRun());
    expect(await openKeys("usage_tracking")).toEqual(["warning usage_tracking_disabled"]);
    await raiseUsageAlerts(openDeps().deps, testRun());
    expect(await openKeys("usage_tracking")).toEqual([]);
  });

  test("names a month that cannot be closed", async () => {
    await world.sql`
      insert into worker.usage_periods (period, state, grace_until, held_by)
      values (202001, 'closing', now() - interval '3 days', '[{"reason": "open_gap"}]')`;
    await raiseUsageAlerts(openDeps().deps, testRun());
    expect(await openKeys("usage_period")).toEqual(["warning usage_period_held:202001"]);
    await world.sql`delete from worker.usage_periods where period = 202001`;
  });

  test("reports counters that differ, and resolves them after a consolidation that finds none", async () => {
    const consolidated = async (): Promise<string> => {
      const run = randomUUID();
      await world.ledger.call("usage_start_run", {
        p_run: run,
        p_job: "weekly_consolidation",
        p_trigger: "timer",
        p_shards: [],
      });
      return run;
    };
    const run = await consolidated();
    await world.sql`
      insert into worker.usage_drifts (run_id, last_run_id, shard, tenant, period, inc, n, redis, used, drift, cause, repair, state)
      values (${run}, ${run}, 1, 'acme', 202611, 'a', 1, 9000, 1000, 8000, 'redis_ahead', 'counter', 'hold_for_approval')`;
    await raiseUsageAlerts(openDeps().deps, testRun());
    const key = "usage_drift:202611:redis_ahead:acme";
    expect(await openKeys(key)).toEqual([`critical ${key}`]);
    await consolidated();
    await raiseUsageAlerts(openDeps().deps, testRun());
    expect(await openKeys(key)).toEqual([]);
  });

  test("leaves alerts of others alone", async () => {
    const { deps } = openDeps();
    const legacy: Alert = {
      key: "usage_legacy_volume",
      level: "warning",
      title: "Of another part",
      evidence: {},
      runbook: "docs/operations/legacy-producers.md",
    };
    await deps.alerts.raise(legacy, testRun().signal);
    await raiseUsageAlerts(deps, testRun());
    expect(await openKeys("usage_legacy_volume")).toEqual(["warning usage_legacy_volume"]);
  });

  test("tells the others when one cannot be told, and fails at the end", async () => {
    const shards = [await world.openShard(), await world.openShard()];
    for (const [i, { shard }] of shards.entries()) {
      await world.sql`
        insert into worker.usage_gaps (shard, inc, from_n, to_n, tokens_lost, cause)
        values (${shard}, 'x', 1, 2, ${100 - i}, 'redis_rewind')`;
    }
    const told: string[] = [];
    const alerts: Alerts = {
      raise: async ({ key }) => {
        if (key === `usage_loss:${shards[0]?.shard}`) throw new Error("not this one");
        told.push(key);
      },
      resolve: async () => {},
    };
    const run = testRun();
    await expect(raiseUsageAlerts(openDeps({ alerts }).deps, run)).rejects.toThrow("not this one");
    expect(told).toContain(`usage_loss:${shards[1]?.shard}`);
    expect(run.lines).toMatchObject([{ level: "warn", event: "alert_not_told" }]);
  });
});
