import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ConsolidationWorld, openConsolidationWorld } from "../support/consolidation-world.ts";
import { failCalls, Killed, type Saboteur } from "../support/failing-calls.ts";

/**
 * A consolidation that dies before and after every single call it makes, and is run again. However it died, counters,
 * ledger and findings end like those of one that was never disturbed, and nothing was corrected twice.
 */
let world: ConsolidationWorld;
beforeAll(async () => {
  world = await openConsolidationWorld({ batchMax: 20, repairAutoMax: 1000 });
});
afterAll(() => world.close());

const sabotage = (saboteur: Saboteur): ConsolidationWorld["deps"] => ({
  ...world.deps,
  usageLog: saboteur.wrap(world.deps.usageLog),
  usageLedger: saboteur.wrap(world.deps.usageLedger),
  shardCounters: saboteur.wrap(world.deps.shardCounters),
  consolidationLedger: saboteur.wrap(world.deps.consolidationLedger),
  consolidationQueue: saboteur.wrap(world.deps.consolidationQueue),
  shardReports: saboteur.wrap(world.deps.shardReports),
});

interface Drifting {
  /** Lost an entry of 33 tokens. */
  readonly lost: string;
  /** Lower by 40, repaired automatically. */
  readonly behind: string;
  /** Lower by 5000, held and approved. */
  readonly approved: string;
}

/** One shard with something of everything, and uses that are not booked yet. */
async function drift(): Promise<Drifting> {
  const lost = world.ownTenant();
  const tenants = { lost, behind: world.neighbourOf(lost), approved: world.neighbourOf(lost) };
  for (const tenant of Object.values(tenants)) await world.record({ tenant, tokens: 6000 });
  await world.reconcileTenant(lost);
  await world.tamper(tenants.approved, -5000);
  await world.consolidate(lost);
  const [held] = await world.driftsOf(tenants.approved);
  const verdict = { decision: "approved", who: "ana", reason: "checked" } as const;
  await world.driftLedger.decide(held?.id ?? "", verdict, new AbortController().signal);
  await world.tamper(tenants.behind, -40);
  await world.record({ tenant: lost, tokens: 33 });
  await world.loseNewest(lost);
  await world.record({ tenant: tenants.behind, tokens: 1 });
  return tenants;
}

async function stateOf(tenants: Drifting): Promise<unknown> {
  const each = async (tenant: string) => ({
    counter: await world.counterOf(tenant),
    used: await world.usedOf(tenant),
    adjustments: (await world.adjustmentsOf(tenant)).map(({ tokens }) => tokens),
    repaired: (await world.driftsOf(tenant))
      .filter(({ state }) => state !== "superseded")
      .map(({ state, drift, cause }) => ({ state, drift, cause })),
  });
  const [lost, behind, approved] = await Promise.all(Object.values(tenants).map(each));
  return { lost, behind, approved, gap: await world.openGap(tenants.lost) };
}

test("undisturbed, it repairs both sides", async () => {
  const tenants = await drift();
  await world.consolidate(tenants.lost);
  expect(await stateOf(tenants)).toEqual(UNDISTURBED);
});

const UNDISTURBED = {
  lost: {
    counter: "6033",
    used: "6033",
    adjustments: ["33"],
    repaired: [{ state: "repaired", drift: "33", cause: "entry_lost_before_apply" }],
  },
  behind: {
    counter: "6001",
    used: "6001",
    adjustments: [],
    repaired: [{ state: "repaired", drift: "-40", cause: "redis_behind" }],
  },
  approved: {
    counter: "6000",
    used: "6000",
    adjustments: [],
    repaired: [{ state: "repaired", drift: "-5000", cause: "redis_behind" }],
  },
  gap: "0",
};

describe.each(["before", "after"] as const)("killed %s a call", (when) => {
  test("and run again, it ends like an undisturbed one", async () => {
    const counter = failCalls(Number.POSITIVE_INFINITY, when);
    const probe = await drift();
    await world.consolidate(probe.lost, {}, sabotage(counter));
    expect(counter.calls()).toBeGreaterThanOrEqual(8);
    for (let call = 1; call <= counter.calls(); call += 1) {
      const tenants = await drift();
      const dying = world.consolidate(tenants.lost, {}, sabotage(failCalls(call, when)));
      await expect(dying, `call ${call}`).rejects.toThrow(Killed);
      await world.consolidate(tenants.lost);
      expect(await stateOf(tenants), `after dying ${when} call ${call}`).toEqual(UNDISTURBED);
      await world.consolidate(tenants.lost);
      expect(await stateOf(tenants)).toEqual(UNDISTURBED);
    }
  });
});

test("killed twice in a row, at any two calls, it still ends the same", async () => {
  for (let first = 3; first <= 8; first += 1) {
    for (const second of [2, 4, 6]) {
      const tenants = await drift();
      for (const call of [first, second]) {
        const deps = sabotage(failCalls(call, call === first ? "after" : "before"));
        await world.consolidate(tenants.lost, {}, deps).catch((error: unknown) => {
          expect(error).toBeInstanceOf(Killed);
        });
      }
      await world.consolidate(tenants.lost);
      expect(await stateOf(tenants), `${first} then ${second}`).toEqual(UNDISTURBED);
    }
  }
}, 60_000);
