import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditWorld, openAuditWorld } from "./audit-world.ts";
import type { LedgerShard } from "./sql/ledger-world.ts";

/**
 * A month is right. Then somebody changes it by hand, in every way and in every two ways at once. The audit names the
 * tenant, each cause and its exact amount, and nobody else.
 */
let world: AuditWorld;
beforeAll(async () => {
  world = await openAuditWorld();
});
afterAll(() => world.close());

interface Month {
  readonly period: number;
  readonly shard: LedgerShard;
  /** Whom the changes are about: two uses in each of two batches. Others share its batches. */
  readonly tenant: string;
  /** Ids of its two batches. */
  readonly batches: readonly [string, string];
}

/** Tenants with uses of 10, 20 (first batch), 40 and 80 tokens (second batch), and neighbours in the same batches. */
async function openMonth(): Promise<Month> {
  const period = world.nextPeriod();
  const shard = await world.openShard();
  const { tenant } = shard;
  for (const amounts of [
    [10n, 20n],
    [40n, 80n],
  ]) {
    for (const tokens of amounts) shard.record({ period, tokens });
    for (let i = 0; i < 5; i += 1)
      shard.record({ period, tenant: `${tenant}-${i}`, tokens: 1000n + BigInt(i) });
    await shard.apply();
  }
  const rows = await world.sql`
    select distinct batch_id from worker.usage_ledger where tenant = ${tenant} order by batch_id`;
  const [first, second] = rows.map((row) => String(row["batch_id"]));
  return { period, shard, tenant, batches: [first ?? "", second ?? ""] };
}

interface Injection {
  readonly name: string;
  /** Each injection works on things of its own, so that two can be combined. */
  readonly inject: (month: Month) => Promise<unknown>;
  readonly cause: string;
  readonly tokens: bigint;
}

const INJECTIONS: readonly Injection[] = [
  {
    name: "a total was raised by hand",
    inject: ({ tenant, period }) => world.sql`
      update worker.usage_totals set tokens = tokens + 7 where tenant = ${tenant} and period = ${period}`,
    cause: "total_edited_outside_ledger",
    tokens: 7n,
  },
  {
    name: "a ledger row was changed by hand",
    inject: ({ tenant, batches }) => world.sql`
      update worker.usage_ledger set tokens = tokens - 3 where tenant = ${tenant} and batch_id = ${batches[0]}`,
    cause: "ledger_edited",
    tokens: -3n,
  },
  {
    name: "events were deleted",
    inject: ({ tenant, batches }) => world.sql`
      delete from worker.usage_events where tenant = ${tenant} and batch_id = ${batches[0]} and tokens = 20`,
    cause: "events_missing",
    tokens: 20n,
  },
  {
    name: "events appeared that nobody booked",
    inject: ({ tenant, period }) => world.sql`
      insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
      values ('2026-11-24', ${period}, 500, 0, gen_random_uuid(), ${tenant}, 'llm', '')`,
    cause: "events_not_booked",
    tokens: -500n,
  },
  {
    name: "a booked batch was booked again",
    inject: ({ tenant, period, batches }) =>
      world.sql.begin(async (sql) => {
        await sql`
        insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason)
        select batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason
          from worker.usage_ledger where tenant = ${tenant} and batch_id = ${batches[1]}`;
        await sql`
        update worker.usage_totals set tokens = tokens + 120, events = events + 2
         where tenant = ${tenant} and period = ${period}`;
      }),
    cause: "double_applied",
    tokens: 120n,
  },
];

test("a month that nobody touched has no findings", async () => {
  const { period } = await openMonth();
  expect(await world.audit(period)).toEqual([]);
});

describe.each(INJECTIONS)("when $name", ({ inject, cause, tokens }) => {
  test("the audit names the tenant, the cause and the exact amount, and nobody else", async () => {
    const month = await openMonth();
    await inject(month);
    expect(await world.differences(month.period)).toEqual([[month.tenant, cause, String(tokens)]]);
  });
});

const PAIRS = INJECTIONS.flatMap((first, i) =>
  INJECTIONS.slice(i + 1).map((second) => ({ first, second })),
);

describe("two causes at once", () => {
  test.each(PAIRS.map(({ first, second }) => [first.name, second.name, first, second] as const))(
    "%s and %s: both are named with their exact amounts",
    async (_first, _second, first, second) => {
      const month = await openMonth();
      await first.inject(month);
      await second.inject(month);
      const expected = [first, second].map(({ cause, tokens }) => [
        month.tenant,
        cause,
        `${tokens}`,
      ]);
      const found = await world.differences(month.period);
      expect([...found].sort()).toEqual([...expected].sort());
    },
  );
});
