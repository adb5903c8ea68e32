import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNodeChild } from "../../local/backends/child-process.ts";
import { progressOf } from "../support/progress.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

/**
 * Worker processes that are killed with SIGKILL at random moments while uses are recorded without a pause; two of them
 * at a time, so that they also get in each other's way. USAGE_KILLS sets how often; `npm run test:crash` does 500.
 */
const KILLS = Number(process.env["USAGE_KILLS"] ?? 8);
const TENANTS = 40;
const wasKilled = progressOf("workers killed", KILLS);
const WORKER = new URL("./drain-worker.child.ts", import.meta.url);

let world: UsageWorld;
beforeAll(async () => {
  world = await openUsageWorld({ leaseTtlMs: 1 });
});
afterAll(() => world.close());

test(
  "no token is lost or doubled by workers that die",
  async () => {
    const recorded = new Map<string, bigint>();
    let isOver = false;
    const recording = recordUntil(() => isOver, recorded);
    await Promise.all([killWorkers(Math.ceil(KILLS / 2)), killWorkers(Math.floor(KILLS / 2))]);
    isOver = true;
    await recording;
    await world.reconcile();
    const rows = await world.database.sql`
      select tenant, sum(tokens)::text as tokens from worker.usage_totals group by tenant`;
    const booked = new Map(rows.map((row) => [String(row["tenant"]), BigInt(row["tokens"])]));
    expect(booked).toEqual(recorded);
    const [sums] = await world.database.sql`
      select (select sum(tokens) from worker.usage_events)::text as events,
             (select sum(tokens) from worker.usage_ledger)::text as ledger,
             (select count(*) from worker.usage_gaps)::int as gaps,
             (select count(*) from worker.usage_quarantine)::int as quarantined,
             (select count(*) from worker.usage_batches where worker is not null)::int as batches`;
    const total = String([...recorded.values()].reduce((a, b) => a + b, 0n));
    expect(sums).toMatchObject({ events: total, ledger: total, gaps: 0, quarantined: 0 });
    expect(sums?.["batches"]).toBeGreaterThan(KILLS / 10); // some did work before they died, also on a slow machine
  },
  60_000 + KILLS * 4000,
);

async function recordUntil(isOver: () => boolean, recorded: Map<string, bigint>): Promise<void> {
  while (!isOver()) {
    const uses = Array.from({ length: 20 }, (_, i) =>
      world.use({ tenant: `tenant-${(i * 7) % TENANTS}`, tokens: i - 3, requestId: randomUUID() }),
    );
    await world.producer.recordAll(uses, signal);
    for (const { tenant, tokens } of uses) {
      recorded.set(tenant, (recorded.get(tenant) ?? 0n) + BigInt(tokens));
    }
    await sleep(5);
  }
}

async function killWorkers(times: number): Promise<void> {
  const { url, key } = await world.database.supabase();
  const { upstash } = world.server;
  for (let kill = 0; kill < times; kill += 1) {
    const args = [upstash.url, upstash.token, url, key];
    const worker = await startNodeChild("drain worker", WORKER, args, { ready: /^(READY)/m });
    await sleep(20 + Math.random() * 600);
    await worker.kill();
    wasKilled();
  }
}
