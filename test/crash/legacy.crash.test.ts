import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dispatchLegacy } from "../../src/lib/usage/legacy/dispatch-legacy.ts";
import { type DrainLegacyDeps, drainLegacy } from "../../src/lib/usage/legacy/drain-legacy.ts";
import type { LegacyMessage } from "../../src/lib/usage/legacy/legacy-message.ts";
import { failCalls, Killed, type Saboteur } from "../support/failing-calls.ts";
import {
  type LegacyWorld,
  openLegacyWorld,
  PENDING_KEY,
  pendingRecord,
} from "../support/legacy-world.ts";
import { testRun } from "../support/test-run.ts";
import { signal } from "../support/usage-world.ts";

/**
 * A drain of the legacy lanes that dies before and after every single call it makes to Redis, Postgres, the queue and
 * the alerts, and is run again. However it died, the ledger ends equal to one that was never disturbed.
 */
let world: LegacyWorld;
beforeAll(async () => {
  world = await openLegacyWorld();
  await world.drain(); // meets every counter once
});
afterAll(() => world.close());

const MEMBERS = 3;
/** Some 30 calls, and a scene with four drains for each. */
const TIMEOUT_MS = 120_000;

const sabotage = (deps: DrainLegacyDeps, saboteur: Saboteur): DrainLegacyDeps => ({
  ...deps,
  pendingSet: saboteur.wrap(deps.pendingSet),
  pendingLedger: saboteur.wrap(deps.pendingLedger),
  legacyCounters: saboteur.wrap(deps.legacyCounters),
  counterLedger: saboteur.wrap(deps.counterLedger),
  legacyRuns: saboteur.wrap(deps.legacyRuns),
  legacyQueue: saboteur.wrap(deps.legacyQueue),
  alerts: saboteur.wrap(deps.alerts),
});

interface Scene {
  /** Booked by its other lanes. */
  readonly acme: string;
  /** Booked by its counters. */
  readonly beta: string;
  readonly deps: DrainLegacyDeps;
}

/** Members that are fine, twice there and malformed; counters that grew, are new and fell; all met before but one. */
async function openScene(): Promise<Scene> {
  await world.redis.command(["DEL", PENDING_KEY], signal);
  const [acme, beta] = [`acme-${randomUUID()}`, `beta-${randomUUID()}`];
  await world.produce({ tenant: acme, tokens: 1 });
  await world.count(beta, 100);
  await world.count(beta, 50, "llm:model:falls");
  await world.drain();
  for (let i = 1; i <= MEMBERS; i += 1) {
    await world.produce({ tenant: acme, tokens: i * 10, direct: "failed" });
  }
  await world.produce({ tenant: acme, tokens: 7 });
  await world.pend(`malformed ${acme}`, pendingRecord({ tenant_id: acme, tokens: -1 }));
  await world.count(beta, 37);
  await world.count(beta, 5, "llm:model:new:one");
  await world.redis.command(
    ["SET", `${beta}:counter:token_usage:type:llm:model:falls`, "3"],
    signal,
  );
  const changed = world.withConfig({ counterTenants: new Set([beta]), alertThreshold: 1 });
  return { acme, beta, deps: { ...changed, pendingSet: inPagesOfOne(changed.pendingSet) } };
}

/** The set as a scan shows it that returns one member at a time. */
function inPagesOfOne(set: DrainLegacyDeps["pendingSet"]): DrainLegacyDeps["pendingSet"] {
  let members: readonly string[] = [];
  return {
    ...set,
    scan: async (cursor, own) => {
      if (cursor === "0") members = (await set.scan("0", own)).members;
      const at = Number(cursor);
      const isEnd = at + 1 >= members.length;
      return { cursor: isEnd ? "0" : String(at + 1), members: members.slice(at, at + 1) };
    },
  };
}

async function stateOf({ acme, beta }: Scene): Promise<unknown> {
  const names = [acme, beta];
  const [row] = await world.database.sql`
    select (select jsonb_object_agg(left(tenant, 4), tokens) from worker.usage_totals where tenant = any(${names})) as totals,
           (select jsonb_object_agg(left(tenant, 4), tokens) from (
              select tenant, sum(tokens) as tokens from worker.usage_ledger where tenant = any(${names}) group by tenant) l) as ledger,
           (select jsonb_object_agg(left(tenant, 4), tokens) from (
              select tenant, sum(tokens) as tokens from worker.usage_events where tenant = any(${names}) group by tenant) e) as events,
           (select count(*)::int from worker.usage_events where tenant = any(${names})) as uses,
           (select count(*)::int from worker.usage_quarantine where tenant = ${acme} or raw like ${`%${acme}%`}) as aside,
           (select jsonb_object_agg(left(tenant, 4), jsonb_build_array(grown, apart, cause)) from worker.usage_legacy_tenants
             where tenant = any(${names})) as sides,
           (select jsonb_agg(jsonb_build_array(kind, cause, tokens) order by id) from worker.usage_legacy_findings
             where tenant = any(${names})) as findings,
           (select jsonb_agg(jsonb_build_array(seen, generation) order by key) from worker.usage_legacy_counters
             where tenant = any(${names})) as counters`;
  return { ...row, members: await world.members() };
}

const EXPECTED = {
  totals: { acme: 68, beta: 42 },
  ledger: { acme: 68, beta: 42 },
  events: { acme: 68, beta: 42 },
  uses: 7,
  aside: 2,
  sides: { acme: [68, 0, null], beta: [192, 0, null] },
  findings: [["gap", "counter_fell", -47]],
  members: [],
};

const toScene = async (work: (scene: Scene) => Promise<void>): Promise<unknown> => {
  const scene = await openScene();
  await work(scene);
  return stateOf(scene);
};

async function runToTheEnd(deps: DrainLegacyDeps): Promise<void> {
  await dispatchLegacy(deps, testRun());
  await runQueue(deps);
}

async function runQueue(deps: DrainLegacyDeps): Promise<void> {
  for (let message = world.queue[0]; message !== undefined; message = world.queue[0]) {
    await drainLegacy(deps, message as LegacyMessage, testRun());
    world.queue.shift();
  }
}

test("a drain that is never disturbed", async () => {
  const state = await toScene(({ deps }) => runToTheEnd(deps));
  expect(state).toMatchObject(EXPECTED);
});

describe.each(["before", "after"] as const)("killed %s a call", { timeout: TIMEOUT_MS }, (when) => {
  test("the message comes back, and the drain ends as if nothing had happened", async () => {
    const counter = failCalls(Number.POSITIVE_INFINITY, "before");
    await toScene(({ deps }) => runToTheEnd(sabotage(deps, counter)));
    expect(counter.calls()).toBeGreaterThan(25);
    for (let call = 1; call <= counter.calls(); call += 1) {
      const state = await toScene(async ({ deps }) => {
        const dying = sabotage(deps, failCalls(call, when));
        await expect(runToTheEnd(dying)).rejects.toThrow(Killed);
        // The platform delivers the message again; one that was never sent leaves it to the next run.
        await (world.queue.length > 0 ? runQueue(deps) : runToTheEnd(deps));
      });
      expect(state, `call ${call}`).toMatchObject(EXPECTED);
      world.queue.length = 0;
    }
  });

  test("and the platform gave up: the next day's run ends the work", async () => {
    for (let call = 3; call <= 30; call += 4) {
      const state = await toScene(async ({ deps }) => {
        const dying = sabotage(deps, failCalls(call, when));
        await runToTheEnd(dying).catch((error: unknown) => expect(error).toBeInstanceOf(Killed));
        world.queue.length = 0;
        await runToTheEnd(deps);
      });
      expect(state, `call ${call}`).toMatchObject(EXPECTED);
    }
  });
});
