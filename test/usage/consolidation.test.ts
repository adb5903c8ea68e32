import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import {
  type ConsolidationWorld,
  LAST_MONTH,
  LAST_MONTH_AT,
  openConsolidationWorld,
  THIS_MONTH,
} from "../support/consolidation-world.ts";
import { signal } from "../support/usage-world.ts";

/** What the weekly consolidation finds, why, and what it does about it: one real Redis, one real Postgres. */
let world: ConsolidationWorld;
beforeAll(async () => {
  world = await openConsolidationWorld({ batchMax: 50 });
});
afterAll(() => world.close());

const counterKey = (tenant: string, period = THIS_MONTH) => keysOf(shardOf(tenant)).counter(period);

/** A tenant with 100 tokens, booked. */
async function bookedTenant(tokens = 100): Promise<string> {
  const tenant = world.ownTenant();
  await world.record({ tenant, tokens });
  await world.reconcileTenant(tenant);
  return tenant;
}

describe("counters that agree", () => {
  test("are left alone, and nothing is written down", async () => {
    const acme = await bookedTenant();
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    expect(await world.driftsOf(acme)).toEqual([]);
  });

  test("agree although nothing was booked yet: the consolidation books up to its cut first", async () => {
    const acme = world.ownTenant();
    await world.record({ tenant: acme, tokens: 7 });
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("7");
    expect(await world.driftsOf(acme)).toEqual([]);
  });

  test("agree beyond 2^53", async () => {
    const acme = world.ownTenant();
    for (let i = 0; i < 20; i += 1) {
      await world.record({ tenant: acme, tokens: 999_999_999_999_999 });
    }
    await world.record({ tenant: acme, tokens: 1 });
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("19999999999999981");
    expect(await world.usedOf(acme)).toBe("19999999999999981");
    expect(await world.driftsOf(acme)).toEqual([]);
  });

  test("of a shard that nobody ever used are none", async () => {
    const acme = world.ownTenant();
    const run = await world.consolidate(acme);
    expect(run.notes["outcome"]).toBe("agreed");
    expect(await world.driftsOf(acme)).toEqual([]);
  });
});

describe("late and future uses", () => {
  test("of a closed month are no drift, in neither month", async () => {
    const acme = world.ownTenant();
    await world.record({ tenant: acme, tokens: 5 });
    await world.record({ tenant: acme, tokens: 30, occurredAt: LAST_MONTH_AT });
    await world.reconcileTenant(acme);
    await closeMonth(LAST_MONTH);
    try {
      await world.record({ tenant: acme, tokens: 11, occurredAt: LAST_MONTH_AT });
      await world.consolidate(acme);
      expect(await world.usedOf(acme, LAST_MONTH)).toBe("41");
      expect(await world.usedOf(acme)).toBe("5");
    } finally {
      await world.database.sql`delete from worker.usage_periods`;
    }
    await world.consolidate(acme);
    expect(await world.counterOf(acme, LAST_MONTH)).toBe("41");
    expect(await world.driftsOf(acme)).toEqual([]);
  });

  test("that claim a far month are no drift, and their counters are compared too", async () => {
    const acme = world.ownTenant();
    const far = Date.now() + 400 * 86_400_000;
    await world.record({ tenant: acme, tokens: 3 });
    await world.record({ tenant: acme, tokens: 8, occurredAt: far });
    await world.consolidate(acme);
    expect(await world.driftsOf(acme)).toEqual([]);
    await world.tamper(acme, 2, periodOf(far));
    await world.consolidate(acme);
    expect(await world.counterOf(acme, periodOf(far))).toBe("8");
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "redis_ahead", period: periodOf(far) },
    ]);
  });

  test("of a closed month are not repaired: a closed month never changes", async () => {
    const acme = world.ownTenant();
    await world.record({ tenant: acme, tokens: 30, occurredAt: LAST_MONTH_AT });
    await world.reconcileTenant(acme);
    await world.tamper(acme, 99, LAST_MONTH);
    await closeMonth(LAST_MONTH);
    try {
      await world.consolidate(acme);
      expect(await world.driftsOf(acme)).toEqual([]);
    } finally {
      await world.database.sql`delete from worker.usage_periods`;
    }
  });

  const closeMonth = (period: number) =>
    world.database.sql`
      insert into worker.usage_periods (period, state, closed_at) values (${period}, 'closed', now())`;
});

describe("the ledger is right", () => {
  test("a foreign increment is taken back; the ledger does not change", async () => {
    const acme = await bookedTenant();
    await world.tamper(acme, 5000);
    const run = await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    expect(await world.usedOf(acme)).toBe("100");
    expect(await world.adjustmentsOf(acme)).toEqual([]);
    expect(await world.driftsOf(acme)).toMatchObject([
      {
        cause: "redis_ahead",
        drift: "5000",
        redis: "5100",
        used: "100",
        repair: "counter",
        state: "repaired",
      },
    ]);
    expect(run.lines).toMatchObject([{ event: "usage_drift_found", level: "warn" }]);
  });

  test("a counter that fell behind is raised", async () => {
    const acme = await bookedTenant();
    await world.tamper(acme, -40);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "redis_behind", drift: "-40", state: "repaired" },
    ]);
  });

  test("a missing counter is made again", async () => {
    const acme = await bookedTenant();
    await world.record({ tenant: world.neighbourOf(acme), tokens: 1 });
    await world.redis.command(["HDEL", counterKey(acme), acme], signal);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "redis_key_missing", redis: null, drift: "-100", state: "repaired" },
    ]);
  });

  test("counters that expired are restored, all tenants at once, with a lifetime", async () => {
    const acme = world.ownTenant();
    const tenants = [acme, ...Array.from({ length: 29 }, () => world.neighbourOf(acme))];
    for (const [i, tenant] of tenants.entries()) await world.record({ tenant, tokens: i + 1 });
    await world.reconcileTenant(acme);
    await world.redis.command(["DEL", counterKey(acme)], signal);
    await world.consolidate(acme);
    for (const [i, tenant] of tenants.entries()) {
      expect(await world.counterOf(tenant)).toBe(String(i + 1));
    }
    const ttl = await world.redis.command(["TTL", counterKey(acme)], signal);
    expect(Number(ttl)).toBeGreaterThan(30 * 86_400);
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "redis_key_missing", evidence: { counters: "absent" }, state: "repaired" },
    ]);
  });

  test("more counters than one correction may hold are restored in several, none held", async () => {
    const acme = world.ownTenant();
    const tenants = [acme, ...Array.from({ length: 29 }, () => world.neighbourOf(acme))];
    for (const tenant of tenants) await world.record({ tenant, tokens: 5 });
    await world.reconcileTenant(acme);
    await world.redis.command(["DEL", counterKey(acme)], signal);
    const { consolidationLedger } = world.deps;
    const small: typeof consolidationLedger = {
      ...consolidationLedger,
      compare: (comparison, own) => {
        const limits = { ...comparison.limits, correctionsMax: 12 };
        return consolidationLedger.compare({ ...comparison, limits }, own);
      },
    };
    const run = await world.consolidate(acme, {}, { ...world.deps, consolidationLedger: small });
    expect(run.notes).toMatchObject({ attempts: 3, corrected: 6, outcome: "repaired" });
    for (const tenant of tenants) {
      expect(await world.counterOf(tenant)).toBe("5");
      expect(await world.driftsOf(tenant)).toMatchObject([{ state: "repaired" }]);
    }
  });

  test("a value that is no number is replaced, and the tenant can record again", async () => {
    const acme = await bookedTenant();
    await world.redis.command(["HSET", counterKey(acme), acme, "007"], signal);
    await expect(world.record({ tenant: acme, tokens: 1 })).rejects.toThrow();
    await world.consolidate(acme);
    await world.record({ tenant: acme, tokens: 1 });
    expect(await world.counterOf(acme)).toBe("101");
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "redis_unreadable", redis: null, state: "repaired" },
    ]);
  });

  test("a counter of a tenant that never used anything is set to nothing", async () => {
    const acme = await bookedTenant();
    const stranger = world.neighbourOf(acme);
    await world.tamper(stranger, 77);
    await world.consolidate(acme);
    expect(await world.counterOf(stranger)).toBe("0");
    expect(await world.usedOf(stranger)).toBe("0");
  });

  test("counters without any meta hash are compared too", async () => {
    const acme = world.ownTenant();
    await world.tamper(acme, 12);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("0");
    await world.record({ tenant: acme, tokens: 4 });
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("4");
    expect(await world.counterOf(acme)).toBe("4");
  });

  test("fields that are no tenants are counted and left alone", async () => {
    const acme = await bookedTenant();
    await world.redis.command(["HSET", counterKey(acme), "a\u0000b", "5"], signal);
    const run = await world.consolidate(acme);
    expect(run.lines).toMatchObject([{ event: "usage_counters_foreign", fields: { fields: 1 } }]);
    expect(run.notes["outcome"]).toBe("agreed");
  });

  test("a flush of a drained shard, nobody writing afterwards: the counters come back", async () => {
    const acme = world.ownTenant();
    const tenants = [acme, ...Array.from({ length: 14 }, () => world.neighbourOf(acme))];
    for (const tenant of tenants) await world.record({ tenant, tokens: 21 });
    await world.reconcileTenant(acme);
    await flushShard(acme);
    await world.consolidate(acme);
    for (const tenant of tenants) expect(await world.counterOf(tenant)).toBe("21");
    await world.consolidate(acme);
    expect(await world.driftsOf(acme)).toHaveLength(1);
  });

  test("a flush with writes of a few tenants afterwards: all counters come back", async () => {
    const acme = world.ownTenant();
    const tenants = [acme, ...Array.from({ length: 14 }, () => world.neighbourOf(acme))];
    for (const tenant of tenants) await world.record({ tenant, tokens: 21 });
    await world.reconcileTenant(acme);
    await flushShard(acme);
    for (const tenant of tenants.slice(0, 3)) await world.record({ tenant, tokens: 1 });
    await world.consolidate(acme);
    for (const [i, tenant] of tenants.entries()) {
      expect(await world.counterOf(tenant)).toBe(i < 3 ? "22" : "21");
      expect(await world.usedOf(tenant)).toBe(i < 3 ? "22" : "21");
    }
  });

  /** What FLUSHALL does to one shard. */
  const flushShard = async (tenant: string) => {
    const { meta, log } = keysOf(shardOf(tenant));
    const keys = (await world.redis.command(
      ["KEYS", `{u:${shardOf(tenant)}}:*`],
      signal,
    )) as string[];
    await world.redis.command(["DEL", meta, log, ...keys], signal);
  };
});

describe("the counters know what the log lost", () => {
  test("the lost use is booked, once, with its evidence, and the gap is closed", async () => {
    const acme = await bookedTenant();
    await world.record({ tenant: acme, tokens: 33 });
    await world.loseNewest(acme);
    const run = await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("133");
    expect(await world.counterOf(acme)).toBe("133");
    expect(await world.openGap(acme)).toBe("0");
    expect(run.notes).toMatchObject({ booked: "33" });
    expect(await world.adjustmentsOf(acme)).toEqual([
      { reason: "adjust:entry_lost_before_apply", tokens: "33", period: THIS_MONTH },
    ]);
    const [drift] = await world.driftsOf(acme);
    expect(drift).toMatchObject({
      cause: "entry_lost_before_apply",
      repair: "ledger",
      state: "repaired",
      evidence: { gap: "33", surplus: "33", gapEntries: "1" },
    });
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("133");
    expect(await world.driftsOf(acme)).toHaveLength(1);
  });

  test("two months in one gap are booked, each in its own", async () => {
    const acme = await bookedTenant();
    const beta = world.neighbourOf(acme);
    await world.record({ tenant: acme, tokens: 40, occurredAt: LAST_MONTH_AT });
    await world.loseNewest(acme);
    await world.record({ tenant: beta, tokens: 2 });
    await world.loseNewest(acme);
    await world.record({ tenant: acme, tokens: 1 });
    await world.consolidate(acme);
    expect(await world.adjustmentsOf(acme)).toMatchObject([{ tokens: "40", period: LAST_MONTH }]);
    expect(await world.adjustmentsOf(beta)).toMatchObject([{ tokens: "2", period: THIS_MONTH }]);
    expect(await world.openGap(acme)).toBe("0");
  });

  test("a foreign increment beside a gap: nothing is invented, everything is held", async () => {
    const acme = await bookedTenant();
    const beta = world.neighbourOf(acme);
    await world.record({ tenant: acme, tokens: 33 });
    await world.loseNewest(acme);
    await world.tamper(beta, 5000);
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("100");
    expect(await world.usedOf(beta)).toBe("0");
    expect(await world.counterOf(beta)).toBe("5000");
    expect(await world.openGap(acme)).toBe("33");
    for (const tenant of [acme, beta]) {
      expect(await world.driftsOf(tenant)).toMatchObject([
        {
          cause: "entry_lost_before_apply",
          state: "hold_for_approval",
          repair: "counter",
          evidence: { hold: "sum_differs", gap: "33", surplus: "5033" },
        },
      ]);
    }
    await world.tamper(beta, -5000);
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("133");
    expect(await world.openGap(acme)).toBe("0");
    expect((await world.driftsOf(beta)).map(({ state }) => state)).toEqual(["superseded"]);
  });

  test("more tenants are ahead than entries were lost: nothing is believed", async () => {
    const acme = await bookedTenant();
    const beta = world.neighbourOf(acme);
    await world.record({ tenant: acme, tokens: 33 });
    await world.loseNewest(acme);
    await world.tamper(acme, -10);
    await world.tamper(beta, 10);
    await world.consolidate(acme);
    expect(await world.usedOf(beta)).toBe("0");
    expect(await world.driftsOf(beta)).toMatchObject([{ state: "hold_for_approval" }]);
  });

  test("a lost credit is booked too, and the counter is not raised by it", async () => {
    const acme = await bookedTenant();
    await world.record({ tenant: acme, tokens: -30 });
    await world.loseNewest(acme);
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("70");
    expect(await world.counterOf(acme)).toBe("70");
    expect(await world.openGap(acme)).toBe("0");
  });

  test("a use of one tenant and a credit of another lost together are held", async () => {
    const acme = await bookedTenant();
    const beta = world.neighbourOf(acme);
    await world.record({ tenant: acme, tokens: 50 });
    await world.loseNewest(acme);
    await world.record({ tenant: beta, tokens: -20 });
    await world.loseNewest(acme);
    await world.consolidate(acme);
    expect(await world.counterOf(beta)).toBe("-20");
    expect(await world.driftsOf(acme)).toMatchObject([{ state: "hold_for_approval" }]);
    expect(await world.driftsOf(beta)).toMatchObject([{ state: "hold_for_approval" }]);
  });

  test("a log that alone lost its end, as its producer noticed: what only the counter knows is booked", async () => {
    const acme = await bookedTenant();
    let now = Date.now();
    const producer = createUsageProducer({
      redis: world.redis,
      clock: { now: () => (now += 2000) },
    });
    await producer.record(world.use({ tenant: acme, tokens: 33 }), signal);
    await world.loseNewest(acme);
    await producer.record(world.use({ tenant: acme, tokens: 1 }), signal);
    await world.consolidate(acme);
    const [gap] = await world.database.sql`
      select cause, (tokens_lost - recovered)::text as open from worker.usage_gaps where shard = ${shardOf(acme)}`;
    expect(gap).toMatchObject({ cause: "redis_rewind", open: "0" });
    expect(await world.usedOf(acme)).toBe("134");
    expect(await world.counterOf(acme)).toBe("134");
  });

  test("a database from a backup, entries trimmed: what is missing is booked back", async () => {
    const [acme, beta] = await restoredDatabase();
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("15");
    expect(await world.usedOf(beta)).toBe("70");
    expect(await world.usedOf(beta, LAST_MONTH)).toBe("9");
    expect(await world.openGap(acme)).toBe("0");
  });

  test("the same, and a foreign writer raised a counter: nothing is booked, all is held", async () => {
    const [acme, beta] = await restoredDatabase();
    await world.tamper(acme, 1);
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("5");
    expect(await world.usedOf(beta)).toBe("0");
    const states = [...(await world.driftsOf(acme)), ...(await world.driftsOf(beta))];
    expect(states.map(({ state }) => state)).toEqual(Array(3).fill("hold_for_approval"));
  });

  /** The database goes back to the first use; Redis has trimmed the later ones. */
  const restoredDatabase = async (): Promise<[string, string]> => {
    const acme = world.ownTenant();
    const beta = world.neighbourOf(acme);
    const shard = shardOf(acme);
    const { sql } = world.database;
    await world.record({ tenant: acme, tokens: 5 });
    await world.reconcileTenant(acme);
    const [cursor] = await sql`select * from worker.usage_shards where shard = ${shard}`;
    await world.record({ tenant: acme, tokens: 10 });
    await world.record({ tenant: beta, tokens: 70 });
    await world.record({ tenant: beta, tokens: 9, occurredAt: LAST_MONTH_AT });
    const { n } = await world.producer.record(world.use({ tenant: acme, tokens: 0 }), signal);
    await world.reconcileTenant(acme);
    await sql`delete from worker.usage_events where tenant in (${acme}, ${beta}) and tokens <> 5`;
    await sql`delete from worker.usage_ledger where tenant in (${acme}, ${beta}) and tokens <> 5`;
    await sql`delete from worker.usage_totals where tenant = ${beta}`;
    await sql`update worker.usage_totals set tokens = 5 where tenant = ${acme}`;
    await sql`delete from worker.usage_batches where shard = ${shard} and from_n > ${cursor?.["n"]}`;
    await sql`update worker.usage_shards set n = ${cursor?.["n"]}, cum = ${cursor?.["cum"]},
      count = ${cursor?.["count"]}, anchor = ${cursor?.["anchor"]} where shard = ${shard}`;
    await world.redis.command(["XTRIM", keysOf(shard).log, "MINID", `${n}-0`], signal);
    return [acme, beta];
  };
});

describe("nobody knows", () => {
  test("a surplus waits while something of the tenant is in quarantine", async () => {
    const acme = await bookedTenant();
    await setAside(acme, 50);
    await world.tamper(acme, 5);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("105");
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "quarantined", state: "wait_for_quarantine", drift: "5" },
    ]);
    await world.database.sql`
      update worker.usage_quarantine set resolved_at = now(), resolution = 'discarded' where tenant = ${acme}`;
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    expect((await world.driftsOf(acme)).map(({ state }) => state)).toEqual([
      "repaired",
      "superseded",
    ]);
  });

  test("a surplus that is exactly what is in quarantine does not stop a gap from being closed", async () => {
    const acme = await bookedTenant();
    const beta = world.neighbourOf(acme);
    await world.record({ tenant: beta, tokens: 50 });
    await world.reconcileTenant(acme);
    await world.tamper(beta, 60);
    await setAside(beta, 60);
    await world.record({ tenant: acme, tokens: 33 });
    await world.loseNewest(acme);
    await world.consolidate(acme);
    expect(await world.usedOf(acme)).toBe("133");
    expect(await world.driftsOf(beta)).toMatchObject([
      { state: "wait_for_quarantine", drift: "60" },
    ]);
  });

  test("a difference above the limit is held, and seen again it stays one row", async () => {
    const acme = await bookedTenant();
    await world.tamper(acme, 1_000_001);
    await world.consolidate(acme);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("1000101");
    expect(await world.driftsOf(acme)).toMatchObject([
      { cause: "redis_ahead", state: "hold_for_approval", evidence: { hold: "above_auto_max" } },
    ]);
    await world.tamper(acme, 1);
    await world.consolidate(acme);
    expect((await world.driftsOf(acme)).map(({ state }) => state)).toEqual([
      "hold_for_approval",
      "superseded",
    ]);
    await world.tamper(acme, -1_000_000);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
  });

  test("a lost entry above the limit is held with what lost it, and proposed for the ledger", async () => {
    const acme = await bookedTenant();
    const beta = world.neighbourOf(acme);
    await world.record({ tenant: acme, tokens: 2_000_000 });
    await world.loseNewest(acme);
    await world.record({ tenant: beta, tokens: 7 });
    await world.loseNewest(acme);
    await world.consolidate(acme);
    for (const tenant of [acme, beta]) {
      expect(await world.driftsOf(tenant)).toMatchObject([
        { state: "hold_for_approval", repair: "ledger", evidence: { hold: "above_auto_max" } },
      ]);
    }
  });

  test("many tenants at once without a reason are held, few are not", async () => {
    const acme = world.ownTenant();
    const tenants = [acme, ...Array.from({ length: 29 }, () => world.neighbourOf(acme))];
    for (const tenant of tenants) await world.record({ tenant, tokens: 10 });
    await world.reconcileTenant(acme);
    for (const tenant of tenants.slice(0, 9)) await world.tamper(tenant, 3);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("10");
    for (const tenant of tenants.slice(0, 10)) await world.tamper(tenant, 3);
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("13");
    expect(await world.driftsOf(acme)).toMatchObject([
      {
        state: "hold_for_approval",
        evidence: { hold: "many_tenants", tenants: 10, ofTenants: 30 },
      },
      { state: "repaired" },
    ]);
  });

  test("a total that was edited by hand is held, and neither side follows it", async () => {
    const acme = await bookedTenant();
    await world.database
      .sql`update worker.usage_totals set tokens = tokens + 25 where tenant = ${acme}`;
    await world.consolidate(acme);
    expect(await world.counterOf(acme)).toBe("100");
    expect(await world.driftsOf(acme)).toMatchObject([
      {
        cause: "total_edited",
        drift: "25",
        used: "100",
        redis: "100",
        repair: "total",
        state: "hold_for_approval",
        evidence: { total: "125", ledger: "100" },
      },
    ]);
  });
});

/** An entry of this month that waits for a decision. */
const setAside = (tenant: string, tokens: number) => world.database.sql`
  insert into worker.usage_quarantine (shard, inc, n, tenant, period, tokens, raw, error)
  values (${shardOf(tenant)}, 'x', 0, ${tenant}, ${THIS_MONTH}, ${tokens}, ${tenant}, 'duplicate_with_other_amount')`;

test("a dry run writes down what it finds and changes nothing else", async () => {
  const acme = await bookedTenant();
  const beta = world.neighbourOf(acme);
  await world.record({ tenant: acme, tokens: 33 });
  await world.loseNewest(acme);
  await world.tamper(beta, -7);
  const before = await world.redis.command(["HGETALL", keysOf(shardOf(acme)).meta], signal);
  const runId = "7b1f3f0e-6a0f-4f7e-9a57-0e7d3a6f9a11";
  await world.consolidate(acme, { apply: false, runId });
  await world.consolidate(acme, { apply: false, runId });
  expect(await world.redis.command(["HGETALL", keysOf(shardOf(acme)).meta], signal)).toEqual(
    before,
  );
  expect(await world.usedOf(acme)).toBe("100");
  expect(await world.counterOf(beta)).toBe("-7");
  expect(await world.openGap(acme)).toBe("33");
  expect(await world.driftsOf(acme)).toMatchObject([
    { state: "found", evidence: { would: "planned" }, repair: "ledger", runId },
  ]);
  expect(await world.driftsOf(beta)).toMatchObject([{ state: "found", cause: "redis_behind" }]);
});
