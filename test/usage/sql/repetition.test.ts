import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type LedgerShard, type LedgerWorld, openLedgerWorld } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const RUNS = 150;
const ENTRIES_MAX = 16;

/** Few requests, so that duplicates with the same and with another amount are common. */
const entry = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("use" as const),
      request: fc.integer({ min: 0, max: 9 }),
      who: fc.integer({ min: 0, max: 2 }),
      tokens: fc.oneof(
        fc.integer({ min: -50, max: 50 }).map(BigInt),
        fc.constant(999_999_999_999_999n),
      ),
      period: fc.constantFrom(202_610, 202_611),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("bad" as const), tokens: fc.option(fc.integer()) }),
  },
);

/** One call of a worker that may be late, early, repeated, or lost in a fork. */
const move = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("apply" as const),
      from: fc.integer({ min: 0, max: ENTRIES_MAX }),
      to: fc.integer({ min: 0, max: ENTRIES_MAX }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("next" as const),
      length: fc.integer({ min: 1, max: 5 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fork" as const) }) },
);
type Move = typeof move extends fc.Arbitrary<infer T> ? T : never;

test("any prefix, suffix, repetition or interleaving of batches ends in the same state", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry, { minLength: 1, maxLength: ENTRIES_MAX }),
      fc.array(move, { maxLength: 14 }),
      async (entries, moves) => {
        const shard = await world.openShard();
        const expected = new Map<string, bigint>();
        const seen = new Set<string>();
        for (const item of entries) {
          if (item.kind === "bad") {
            const tokens = item.tokens === null ? {} : { tokens: String(item.tokens) };
            shard.bad({ raw: `bad-${shard.entries.length}`, error: "format", ...tokens });
            continue;
          }
          const tenant = `${shard.tenant}-${item.who}`;
          shard.record({ ...item, tenant, request: String(item.request) });
          if (seen.has(`${tenant}/${item.request}`)) continue;
          seen.add(`${tenant}/${item.request}`);
          const key = `${tenant}/${item.period}`;
          expected.set(key, (expected.get(key) ?? 0n) + item.tokens);
        }
        for (const one of moves) await play(shard, one);
        while (Number((await shard.state())["n"]) < entries.length)
          await play(shard, { kind: "next", length: 4 });
        expect(await stateOf(shard)).toEqual({
          totals: Object.fromEntries([...expected].sort().map(([key, sum]) => [key, String(sum)])),
          ledgerDiffers: "0",
          eventsDiffer: "0",
          batchesDiffer: "0",
          quarantined: new Set(entries.flatMap((item, i) => (item.kind === "bad" ? [i] : []))).size,
          gaps: "0",
          count: shard.entries.at(-1)?.count,
        });
      },
    ),
    { numRuns: RUNS },
  );
}, 120_000);

/** Whatever a call answers is fine; what counts is the state at the end. */
async function play(shard: LedgerShard, one: Move): Promise<void> {
  if (one.kind === "fork") {
    await shard.fork("lineage_changed", shard.entries.length, String(shard.entries.at(-1)?.cum));
    return;
  }
  const cursor = Number((await shard.state())["n"]);
  const { from, to } = one.kind === "next" ? { from: cursor, to: cursor + one.length } : one;
  const batch = shard.batch(from, to);
  if (Number(batch["p_to_n"]) > from) await world.call("usage_apply_batch", batch);
}

async function stateOf(shard: LedgerShard) {
  const mine = `${shard.tenant}-%`;
  const totals = await world.sql`
    select tenant || '/' || period as key, tokens from worker.usage_totals
     where tenant like ${mine} order by 1`;
  const [row] = await world.sql`
    with total as (select coalesce(sum(tokens), 0) as sum from worker.usage_totals where tenant like ${mine})
    select total.sum - (select coalesce(sum(tokens), 0) from worker.usage_ledger where tenant like ${mine}) as ledger,
           total.sum - (select coalesce(sum(tokens), 0) from worker.usage_events where tenant like ${mine}) as events,
           total.sum - (select coalesce(sum(tokens), 0) from worker.usage_batches
                         where shard = ${shard.shard}) as batches,
           (select count(*)::int from worker.usage_quarantine
             where shard = ${shard.shard} and error = 'format') as quarantined,
           (select count(*) from worker.usage_gaps where shard = ${shard.shard}) as gaps,
           (select count::int from worker.usage_shards where shard = ${shard.shard}) as count
      from total`;
  return {
    totals: Object.fromEntries(totals.map((total) => [total["key"], total["tokens"]])),
    ledgerDiffers: row?.["ledger"],
    eventsDiffer: row?.["events"],
    batchesDiffer: row?.["batches"],
    quarantined: row?.["quarantined"],
    gaps: row?.["gaps"],
    count: row?.["count"] ?? shard.entries.at(-1)?.count,
  };
}
