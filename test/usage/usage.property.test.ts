import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createUsageProducer, type UsageProducer } from "../../src/lib/usage/usage-producer.ts";
import type { UsageRecord } from "../../src/lib/usage/usage-record.ts";
import { failCalls, Killed } from "../support/failing-calls.ts";
import { progressOf } from "../support/progress.ts";
import { type RedisSnapshot, redisSnapshots } from "../support/redis-snapshot.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

/**
 * Random histories of producers, retries, workers that die, workers in parallel, flushes and restores of Redis. The
 * model knows nothing of shards, cursors or lineages: it is the set of requests that a producer was told are recorded.
 * With live producers nothing may ever be lost or counted twice, whatever happened.
 *
 * USAGE_PROPERTY_RUNS sets the number of histories.
 */
const RUNS = Number(process.env["USAGE_PROPERTY_RUNS"] ?? 12);
const TENANTS = ["acme", "ñandú", "a|b", "7c9e6679-7425-40de-944b-e07fc1f90ae7"];

type Step =
  | {
      readonly do: "record";
      readonly tenant: number;
      readonly tokens: number;
      readonly producer: number;
    }
  | { readonly do: "retry"; readonly which: number; readonly producer: number }
  | { readonly do: "drain"; readonly dieAt: number; readonly when: "before" | "after" }
  | { readonly do: "parallel" }
  | { readonly do: "snapshot" | "rewind" | "flush" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("record" as const),
      tenant: fc.nat(TENANTS.length - 1),
      tokens: fc.oneof(fc.integer({ min: -50, max: 1000 }), fc.constant(1_000_000_000_000_000)),
      producer: fc.nat(1),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("retry" as const),
      which: fc.nat(),
      producer: fc.nat(1),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("drain" as const),
      dieAt: fc.integer({ min: 1, max: 40 }),
      when: fc.constantFrom("before" as const, "after" as const),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "parallel" as const }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom("snapshot", "snapshot", "rewind", "rewind", "flush"),
    }) as fc.Arbitrary<Step>,
  },
);

let world: UsageWorld;
let snapshots: ReturnType<typeof redisSnapshots>;
beforeAll(async () => {
  world = await openUsageWorld({ batchMax: 7, leaseTtlMs: 1 });
  snapshots = redisSnapshots(world.server.url);
});
afterAll(async () => {
  snapshots.close();
  await world.close();
});

interface History {
  readonly producers: readonly UsageProducer[];
  readonly recorded: Map<string, UsageRecord>;
  snapshot: RedisSnapshot | undefined;
}

async function play(history: History, now: Step, position: number): Promise<void> {
  const producer = "producer" in now ? history.producers[now.producer] : undefined;
  switch (now.do) {
    case "record": {
      const tenant = TENANTS[now.tenant] ?? "acme";
      const use = world.use({ tenant, tokens: now.tokens, requestId: `r${position}` });
      await producer?.record(use, signal);
      history.recorded.set(`${tenant} r${position}`, use);
      return;
    }
    case "retry": {
      const known = [...history.recorded.values()];
      const again = known[now.which % Math.max(1, known.length)];
      if (again !== undefined) await producer?.record(again, signal);
      return;
    }
    case "drain":
      return drain(now.dieAt, now.when);
    case "parallel":
      await Promise.all([world.reconcile(), world.reconcile()]);
      return;
    case "snapshot":
      history.snapshot = await snapshots.take();
      return;
    case "rewind":
      if (history.snapshot !== undefined) await snapshots.restore(history.snapshot);
      return;
    case "flush":
      await world.server.flush();
  }
}

async function drain(dieAt: number, when: "before" | "after"): Promise<void> {
  const saboteur = failCalls(dieAt, when);
  const deps = {
    ...world.deps,
    usageLog: saboteur.wrap(world.deps.usageLog),
    usageLedger: saboteur.wrap(world.deps.usageLedger),
    shardReports: saboteur.wrap(world.deps.shardReports),
  };
  await world.reconcile(deps).catch((error: unknown) => expect(error).toBeInstanceOf(Killed));
  world.queue.length = 0; // whatever the dead worker held is gone; the next run plans it again
}

const wipe = () =>
  world.database.sql.unsafe(`
  truncate worker.usage_shards, worker.usage_batches, worker.usage_events, worker.usage_ledger, worker.usage_totals,
    worker.usage_quarantine, worker.usage_gaps, worker.usage_lineages, worker.usage_observations restart identity cascade`);

test(
  "no history of crashes, rewinds and retries loses or doubles a token",
  async () => {
    const hadHistory = progressOf("histories", RUNS);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
        await world.server.flush();
        await wipe();
        const unbounded = {
          redis: world.redis,
          ringMs: Number.MAX_SAFE_INTEGER,
          ringMax: 100_000,
          verifyMs: 0,
        };
        const history: History = {
          producers: [createUsageProducer(unbounded), createUsageProducer(unbounded)],
          recorded: new Map(),
          snapshot: undefined,
        };
        for (const [position, now] of steps.entries()) await play(history, now, position);
        // Every producer writes once more to every tenant: that is how it notices that Redis lost something.
        for (const producer of history.producers) {
          for (const tenant of TENANTS) {
            const last = world.use({ tenant, tokens: 1 });
            await producer.record(last, signal);
            history.recorded.set(`${tenant} ${last.requestId}`, last);
          }
        }
        await world.reconcile();
        await expectExact(history);
        if (!steps.some(({ do: what }: Step) => what === "flush" || what === "rewind"))
          await expectCalm();
        hadHistory();
      }),
      { numRuns: RUNS, endOnFailure: RUNS <= 20 },
    );
  },
  Math.max(120_000, RUNS * 6000),
);

/** A Redis that forgot nothing is never taken for one that did. */
async function expectCalm(): Promise<void> {
  const [found] = await world.database.sql`
    select (select count(*) from worker.usage_lineages)::int as lineages,
           (select count(*) from worker.usage_gaps)::int as gaps`;
  expect(found).toEqual({ lineages: 0, gaps: 0 });
}

async function expectExact({ recorded }: History): Promise<void> {
  const expected = new Map<string, bigint>();
  for (const { tenant, tokens } of recorded.values()) {
    expected.set(tenant, (expected.get(tenant) ?? 0n) + BigInt(tokens));
  }
  const rows = await world.database.sql`
    select tenant, sum(tokens)::text as tokens from worker.usage_totals group by tenant`;
  expect(new Map(rows.map((row) => [row["tenant"], BigInt(row["tokens"])]))).toEqual(expected);
  const [sums] = await world.database.sql`
    select (select coalesce(sum(tokens), 0) from worker.usage_ledger)::text as ledger,
           (select coalesce(sum(tokens), 0) from worker.usage_events)::text as events,
           (select coalesce(sum(tokens), 0) from worker.usage_batches)::text as batches,
           (select coalesce(sum(tokens_lost - recovered), 0) from worker.usage_gaps)::text as open,
           (select count(*) from worker.usage_quarantine)::int as quarantined`;
  const total = String([...expected.values()].reduce((a, b) => a + b, 0n));
  expect(sums).toMatchObject({ ledger: total, events: total, batches: total, quarantined: 0 });
}
