import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DAY, type LedgerWorld, openLedgerWorld, PERIOD, uidOf } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

/** Everything a batch could have changed for a shard, to compare before and after. */
async function footprint(shard: number, tenant: string) {
  const { sql } = world;
  return sql`
    select (select to_jsonb(s) - 'updated_at' from worker.usage_shards s where shard = ${shard}) as cursor,
           (select count(*) from worker.usage_batches where shard = ${shard}) as batches,
           (select count(*) from worker.usage_events where tenant = ${tenant}) as events,
           (select sum(tokens) from worker.usage_ledger where tenant = ${tenant}) as ledger,
           (select sum(tokens) from worker.usage_totals where tenant = ${tenant}) as total,
           (select count(*) from worker.usage_gaps where shard = ${shard}) as gaps,
           (select count(*) from worker.usage_quarantine where shard = ${shard}) as quarantine`;
}

describe("a batch", () => {
  test("moves events, ledger, total and cursor together", async () => {
    const shard = await world.openShard();
    shard.record({ tokens: 7n, agent: "a1", conversation: "c1" });
    const last = shard.record({ tokens: -2n, type: "embedding", model: "" });
    expect(await shard.apply()).toMatchObject({
      status: "applied",
      applied: 2,
      dup: 0,
      conflicting: 0,
      bad: 0,
      tokens: "5",
      n: "2",
    });
    expect(await shard.state()).toMatchObject({
      inc: shard.inc(),
      n: "2",
      cum: "5",
      count: "2",
      anchor: last.kind === "use" ? `${last.uid}@2` : "",
    });
    expect(await shard.totals()).toEqual({ [PERIOD]: "5" });
    const events = await world.sql`
      select tokens, token_type, model, agent_id, conversation_id, day::text
        from worker.usage_events where tenant = ${shard.tenant} order by tokens desc`;
    expect(events).toEqual([
      {
        tokens: "7",
        token_type: "llm",
        model: "gpt-4o",
        agent_id: "a1",
        conversation_id: "c1",
        day: "2026-11-24",
      },
      {
        tokens: "-2",
        token_type: "embedding",
        model: "",
        agent_id: null,
        conversation_id: null,
        day: "2026-11-24",
      },
    ]);
  });

  test("that is sent again answers stale with the cursor and changes nothing", async () => {
    const shard = await world.openShard();
    shard.record();
    const batch = shard.batch(0);
    await world.call("usage_apply_batch", batch);
    const before = await footprint(shard.shard, shard.tenant);
    const again = await world.call("usage_apply_batch", batch);
    expect(again).toEqual({ status: "stale", inc: shard.inc(), n: "1" });
    expect(await footprint(shard.shard, shard.tenant)).toEqual(before);
  });

  test("of another lineage is stale", async () => {
    const shard = await world.openShard();
    shard.record();
    const answer = await shard.apply({ p_inc: "another" });
    expect(answer).toEqual({ status: "stale", inc: shard.inc(), n: "0" });
  });

  test("of a shard that the database never saw is stale, at the start", async () => {
    const shard = await world.openShard();
    shard.record();
    const answer = await shard.apply({ p_shard: 65_000 });
    expect(answer).toEqual({ status: "stale", inc: "", n: "0" });
  });

  test("under a lease that was taken over is fenced and changes nothing", async () => {
    const shard = await world.openShard();
    shard.record();
    const lease = { p_shard: shard.shard, p_owner: "paused", p_ttl_ms: 60_000 };
    const { fence } = await world.call("usage_lease_shard", lease);
    await world.call("usage_lease_shard", lease);
    const before = await footprint(shard.shard, shard.tenant);
    const answer = await shard.apply({ p_fence: fence });
    expect(answer).toEqual({ status: "fenced", inc: shard.inc(), n: "0" });
    expect(await footprint(shard.shard, shard.tenant)).toEqual(before);
  });

  test.each([
    ["ends where it starts", { p_to_n: 0 }],
    ["has a column that is shorter", { p_tenant: [] }],
    ["has an optional column that is shorter", { p_agent: [] }],
    ["lacks a column", { p_day: null }],
    [
      "has more than 20000 malformed entries",
      { p_bad: Array.from({ length: 20_001 }, () => ({})) },
    ],
  ])("that %s is refused", async (_, overrides) => {
    const shard = await world.openShard();
    shard.record();
    await expect(shard.apply(overrides)).rejects.toMatchObject({
      code: "UL001",
      message: expect.stringContaining("usage_argument_invalid"),
    });
  });

  test.each([
    [
      "a month that does not exist",
      { p_period: [202_613], p_bill: null },
      "usage_ledger_period_check",
    ],
    ["an unknown token type", { p_dims: [["image", "x"]] }, "usage_ledger_token_type_check"],
    ["an empty tenant", { p_tenant: [""] }, "usage_ledger_tenant_check"],
  ])(
    "with %s is refused as a whole, and the error names the constraint",
    async (_, part, constraint) => {
      const shard = await world.openShard();
      shard.record();
      await expect(shard.apply(part)).rejects.toMatchObject({ constraint_name: constraint });
      expect(await shard.state()).toMatchObject({ n: "0" });
    },
  );

  test("without a single record moves the cursor", async () => {
    const shard = await world.openShard();
    const empty = { p_to_n: 5, p_cum: 0, p_count: 0, p_dims: [] };
    expect(await shard.apply(empty)).toMatchObject({ status: "applied", applied: 0, tokens: "0" });
    expect(await shard.state()).toMatchObject({ n: "5", anchor: null });
  });
});

describe("amounts", () => {
  test("beyond 2^53 are exact in events, ledger, totals, sums and answers", async () => {
    const shard = await world.openShard();
    const large = 999_999_999_999_999n;
    const uses = Array.from({ length: 20 }, () => shard.record({ tokens: large }));
    const sum = String(large * BigInt(uses.length));
    expect(await shard.apply()).toMatchObject({ tokens: sum });
    shard.record({ tokens: 9_007_199_254_740_993n });
    await shard.apply();
    const exact = String(BigInt(sum) + 9_007_199_254_740_993n);
    expect(await shard.state()).toMatchObject({ cum: exact });
    expect(await shard.totals()).toEqual({ [PERIOD]: exact });
    const total = await readTotal(shard.tenant);
    expect(total).toMatchObject({ tokens: exact, used: exact });
    expect(total["breakdown"]).toMatchObject([{ tokens: exact, events: "21" }]);
  });

  test("of a total may pass what a bigint holds", async () => {
    const shard = await world.openShard();
    const largest = 9_223_372_036_854_775_807n;
    for (let i = 0; i < 3; i += 1) shard.record({ tokens: largest });
    await shard.apply();
    expect(await shard.totals()).toEqual({ [PERIOD]: String(largest * 3n) });
  });
});

describe("a tenant", () => {
  test.each([
    'O\'Brien "x" \\ {a,b}',
    "a|b|c",
    "ñandú 🦤 漢字",
    "NULL",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "'); drop table worker.usage_totals; --",
  ])("called %s keeps its name everywhere", async (name) => {
    const shard = await world.openShard();
    const tenant = `${name}#${shard.shard}`;
    shard.record({ tenant, agent: name, conversation: name, model: name });
    await shard.apply();
    const total = await readTotal(tenant);
    expect(total).toMatchObject({
      tenant,
      tokens: "10",
      breakdown: [{ type: "llm", model: name }],
    });
  });

  test("that nobody knows has zeros", async () => {
    expect(await readTotal("nobody")).toEqual({
      tenant: "nobody",
      period: PERIOD,
      tokens: "0",
      used: "0",
      legacy: "0",
      events: "0",
      late: "0",
      adjusted: "0",
      quarantined: 0,
      updatedAt: null,
      breakdown: [],
    });
  });

  test("sees its use by type and model, corrections apart", async () => {
    const shard = await world.openShard();
    shard.record({ tokens: 1n, model: "b" });
    shard.record({ tokens: 2n, model: "a" });
    shard.record({ tokens: 4n, model: "a", type: "embedding" });
    shard.record({ tokens: 8n, model: "a" });
    await shard.apply();
    await world.sql`
      insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason)
      values (${shard.tenant}, ${PERIOD}, ${PERIOD}, -3, 0, 'adjust:test')`;
    const total = await readTotal(shard.tenant);
    expect(total).toMatchObject({ adjusted: "-3", events: "4" });
    expect(total["breakdown"]).toEqual([
      { type: "embedding", model: "a", tokens: "4", events: "1" },
      { type: "llm", model: "a", tokens: "10", events: "2" },
      { type: "llm", model: "b", tokens: "1", events: "1" },
      { type: "unknown", model: "", tokens: "-3", events: "0" },
    ]);
  });
});

describe("a duplicate", () => {
  test("in the same batch and in a later one counts once", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1" });
    shard.record({ request: "r1" });
    expect(await shard.apply()).toMatchObject({ applied: 1, dup: 1, conflicting: 0, tokens: "10" });
    shard.record({ request: "r1" });
    expect(await shard.apply()).toMatchObject({ applied: 0, dup: 1, conflicting: 0, tokens: "0" });
    expect(await shard.totals()).toEqual({ [PERIOD]: "10" });
    expect(await shard.gaps()).toEqual([]);
  });

  test("on another day is another event", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1" });
    shard.record({ request: "r1", day: DAY - 1 });
    expect(await shard.apply()).toMatchObject({ applied: 2 });
  });

  test("with another amount is set aside, and the first amount stands", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1", tokens: 10n });
    shard.record({ request: "r1", tokens: 30n });
    await shard.apply();
    shard.record({ request: "r1", tokens: 30n });
    shard.record({ request: "r1", tokens: 10n });
    expect(await shard.apply()).toMatchObject({ applied: 0, dup: 2, conflicting: 1 });
    expect(await shard.totals()).toEqual({ [PERIOD]: "10" });
    expect(await quarantineOf(shard.shard)).toEqual([
      {
        error: "duplicate_with_other_amount",
        tenant: shard.tenant,
        period: PERIOD,
        tokens: "30",
        raw: expect.stringContaining(uidOf(shard.tenant, "r1")),
      },
    ]);
    expect(await readTotal(shard.tenant)).toMatchObject({ quarantined: 1 });
  });

  test("that is only the same entry read again after a fork is no finding", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1", tokens: 10n });
    shard.record({ request: "r2", tokens: 20n });
    shard.record({ request: "r1", tokens: 30n });
    await shard.apply();
    for (let i = 0; i < 2; i += 1) {
      await shard.fork();
      expect(await shard.apply()).toMatchObject({ applied: 0, dup: 3, conflicting: 1 });
    }
    expect(await quarantineOf(shard.shard)).toHaveLength(1);
    expect(await shard.totals()).toEqual({ [PERIOD]: "30" });
  });
});

describe("a malformed entry", () => {
  test("is set aside with its raw text, and its neighbours are booked", async () => {
    const shard = await world.openShard();
    shard.record();
    shard.bad({ raw: '["d","nonsense \\u0000"]', error: "format" });
    shard.bad({
      raw: '["d","12|x"]',
      error: "tenant",
      tokens: "5",
      tenant: shard.tenant,
      period: PERIOD,
    });
    shard.record();
    expect(await shard.apply()).toMatchObject({ applied: 2, bad: 2, tokens: "20" });
    expect(await shard.gaps()).toEqual([]);
    expect(await quarantineOf(shard.shard)).toEqual([
      {
        error: "format",
        tenant: null,
        period: null,
        tokens: null,
        raw: '["d","nonsense \\u0000"]',
      },
      { error: "tenant", tenant: shard.tenant, period: PERIOD, tokens: "5", raw: '["d","12|x"]' },
    ]);
    expect(await readTotal(shard.tenant)).toMatchObject({ quarantined: 1 });
  });

  test("is set aside once, also when a fork reads it again", async () => {
    const shard = await world.openShard();
    shard.bad({ raw: "one", error: "format" });
    shard.bad({ raw: "one", error: "format" });
    shard.record();
    await shard.apply();
    await shard.fork();
    expect(await shard.apply()).toMatchObject({ status: "applied", bad: 2, dup: 1 });
    expect(await quarantineOf(shard.shard)).toHaveLength(2);
  });
});

describe("the row of a batch", () => {
  test("says what was read, by whom and in which run", async () => {
    const shard = await world.openShard();
    const run = randomUUID();
    shard.record({ request: "r1" });
    shard.record({ request: "r1" });
    shard.bad({ raw: "x", error: "format" });
    const { batch } = await shard.apply({ p_worker: "w1", p_run: run });
    const [row] = await world.sql`
      select from_n, to_n, seen, applied, dup, bad, tokens, worker, run_id
        from worker.usage_batches where batch_id = ${String(batch)}`;
    expect(row).toEqual({
      from_n: "1",
      to_n: "3",
      seen: 2,
      applied: 1,
      dup: 1,
      bad: 1,
      tokens: "10",
      worker: "w1",
      run_id: run,
    });
  });
});

const readTotal = (tenant: string) =>
  world.call("usage_read_total", { p_tenant: tenant, p_period: PERIOD });

const quarantineOf = (shard: number) => world.sql`
  select error, tenant, period, tokens, raw from worker.usage_quarantine where shard = ${shard} order by id`;
