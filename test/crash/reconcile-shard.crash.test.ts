import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { shardOf } from "../../src/lib/usage/usage-keys.ts";
import { failCalls, Killed, type Saboteur } from "../support/failing-calls.ts";
import { testRun } from "../support/test-run.ts";
import type { UsageDeps } from "../support/usage-deps.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

/**
 * A reconciliation that dies before and after every single call it makes to Redis, Postgres and the queue, and is run
 * again. However it died, the ledger ends equal to one that was never disturbed.
 */
let world: UsageWorld;
beforeAll(async () => {
  world = await openUsageWorld({ batchMax: 20, retainHours: 24 });
});
afterAll(() => world.close());

const sabotage = (saboteur: Saboteur): UsageDeps => ({
  ...world.deps,
  usageLog: saboteur.wrap(world.deps.usageLog),
  shardHeads: saboteur.wrap(world.deps.shardHeads),
  usageLedger: saboteur.wrap(world.deps.usageLedger),
  runLedger: saboteur.wrap(world.deps.runLedger),
  shardReports: saboteur.wrap(world.deps.shardReports),
  shardQueue: saboteur.wrap(world.deps.shardQueue),
});

const usedShards = new Set<number>();
/** The first run of a shard makes more calls than the later ones. */
function tenantOfUnusedShard(): string {
  let tenant = randomUUID();
  while (usedShards.has(shardOf(tenant))) tenant = randomUUID();
  usedShards.add(shardOf(tenant));
  return tenant;
}

const recordFifty = async (tenant: string): Promise<void> => {
  const uses = Array.from({ length: 50 }, (_, i) => world.use({ tenant, tokens: i - 5 }));
  await world.producer.recordAll(uses, signal);
};
const EXPECTED = String((49 * 50) / 2 - 5 * 50);

/** Everything that must hold whatever happened before. */
async function expectExact(tenant: string): Promise<void> {
  const [row] = await world.database.sql`
    select (select sum(tokens)::text from worker.usage_totals where tenant = ${tenant}) as total,
           (select sum(tokens)::text from worker.usage_ledger where tenant = ${tenant}) as ledger,
           (select sum(tokens)::text from worker.usage_events where tenant = ${tenant}) as events,
           (select count(*)::int from worker.usage_gaps) as gaps,
           (select count(*)::int from worker.usage_quarantine) as quarantined`;
  expect(row).toEqual({
    total: EXPECTED,
    ledger: EXPECTED,
    events: EXPECTED,
    gaps: 0,
    quarantined: 0,
  });
}

async function countCalls(work: (deps: UsageDeps) => Promise<void>): Promise<number> {
  const counter = failCalls(Number.POSITIVE_INFINITY, "before");
  await work(sabotage(counter));
  return counter.calls();
}

/** A release that fails is swallowed on purpose: it costs the next worker a wait. */
async function dieAt(
  call: number,
  when: "before" | "after",
  work: (deps: UsageDeps) => Promise<void>,
): Promise<void> {
  const saboteur = failCalls(call, when);
  await work(sabotage(saboteur)).catch((error: unknown) => expect(error).toBeInstanceOf(Killed));
  expect(saboteur.calls()).toBeGreaterThanOrEqual(call);
}

describe.each(["before", "after"] as const)("killed %s a call", (when) => {
  test("while a shard is booked: running it again ends exact", async () => {
    const probe = tenantOfUnusedShard();
    await recordFifty(probe);
    const calls = await countCalls((deps) => world.reconcileTenant(probe, deps));
    expect(calls).toBeGreaterThan(8);
    for (let call = 1; call <= calls; call += 1) {
      const tenant = tenantOfUnusedShard();
      await recordFifty(tenant);
      await dieAt(call, when, (deps) => world.reconcileTenant(tenant, deps));
      await expireLeases();
      await world.reconcileTenant(tenant);
      await world.reconcileTenant(tenant);
      await expectExact(tenant);
    }
  });

  test("while a run is planned: the next run plans and books it", async () => {
    const calls = await countCalls((deps) => dispatchShards(deps, testRun()));
    for (let call = 1; call <= calls; call += 1) {
      const tenant = tenantOfUnusedShard();
      await recordFifty(tenant);
      await dieAt(call, when, (deps) => dispatchShards(deps, testRun()));
      await world.reconcile();
      await expectExact(tenant);
    }
  });
});

test("killed before and after every call of a trim: nothing but old entries is gone", async () => {
  const probe = tenantOfUnusedShard();
  await recordFifty(probe);
  await world.reconcileTenant(probe);
  for (const when of ["before", "after"] as const) {
    for (let call = 1; call <= 12; call += 1) {
      const tenant = tenantOfUnusedShard();
      await recordFifty(tenant);
      await world.reconcileTenant(tenant);
      await world.database
        .sql`update worker.usage_batches set applied_at = applied_at - interval '3 days'`;
      await world.record({ tenant, tokens: 0 });
      await world
        .reconcileTenant(tenant, sabotage(failCalls(call, when)))
        .catch((error: unknown) => expect(error).toBeInstanceOf(Killed));
      await expireLeases();
      await world.reconcileTenant(tenant);
      await expectExact(tenant);
    }
  }
});

/** What waiting for the lease time of the dead worker does. */
const expireLeases = () =>
  world.database.sql`update worker.usage_shards set lease_until = now() - interval '1 second'`;
