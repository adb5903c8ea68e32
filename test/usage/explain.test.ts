import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { explainUsage } from "../../src/lib/usage/explain-usage.ts";
import { observeShards } from "../../src/lib/usage/observe-shards.ts";
import {
  type UsageExplainLedger,
  usageExplainLedger,
} from "../../src/lib/usage/usage-explain.supabase.ts";
import { keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { usageTail } from "../../src/lib/usage/usage-log.redis.ts";
import { testRun } from "../support/test-run.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

let world: UsageWorld;
let ledger: UsageExplainLedger;
let close: () => Promise<void>;
beforeAll(async () => {
  world = await openUsageWorld();
  const api = createRpc(await world.database.supabase());
  ledger = usageExplainLedger(api.rpc);
  close = api.close;
});
afterAll(async () => {
  await close();
  await world.close();
});

const DAY_MS = 86_400_000;
const now = Date.now();
const period = periodOf(now);

async function explain(tenant: string, month = period) {
  const facts = await ledger.facts(tenant, month, shardOf(tenant), signal);
  const log = await usageTail(world.redis).tail(tenant, month, facts.cursor?.n ?? "0", signal);
  return { facts, ...explainUsage(tenant, month, facts, log) };
}

describe("an explanation", () => {
  test("of a tenant nobody knows is all zeros", async () => {
    const { identity, findings } = await explain(randomUUID());
    expect(identity).toEqual({
      recorded: null,
      booked: "0",
      pending: "0",
      quarantined: "0",
      difference: null,
    });
    expect(findings).toEqual([]);
  });

  test("finds every token: booked, pending and set aside, each with ids", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme, tokens: 100 });
    await world.reconcile();
    await world.record({ tenant: acme, tokens: 20 });
    const waiting = await world.record({ tenant: acme, tokens: 3, model: "gpt-5" });
    const { identity, pending, facts, findings } = await explain(acme);
    expect(identity).toEqual({
      recorded: "123",
      booked: "100",
      pending: "23",
      quarantined: "0",
      difference: "0",
    });
    expect(pending.rows).toMatchObject([{ tokens: "20" }, { tokens: "3", model: waiting.model }]);
    expect(facts.batches).toMatchObject([{ tokens: "100", events: "1", lane: "log" }]);
    expect(findings).toEqual([]);
  });

  test("counts what waits in quarantine, because the counter counts it too", async () => {
    const acme = randomUUID();
    const occurredAt = now - 40 * DAY_MS;
    await world.record({ tenant: acme, tokens: 55, occurredAt });
    await world.reconcile();
    const { identity, facts } = await explain(acme, periodOf(occurredAt));
    expect(identity).toMatchObject({ recorded: "55", quarantined: "55", difference: "0" });
    expect(facts.quarantined.rows).toMatchObject([{ error: "occurred_too_old", tokens: "55" }]);
  });

  test("names a counter that somebody raised, with the amount", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme, tokens: 10 });
    await world.reconcile();
    const counter = keysOf(shardOf(acme)).counter(period);
    await world.redis.command(["HINCRBY", counter, acme, "77"], signal);
    const { identity, findings } = await explain(acme);
    expect(identity.difference).toBe("77");
    expect(findings).toEqual(["redis_ahead"]);
  });

  test("names a counter that is gone", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme, tokens: 10 });
    await world.reconcile();
    await world.redis.command(["HDEL", keysOf(shardOf(acme)).counter(period), acme], signal);
    expect((await explain(acme)).findings).toEqual(["redis_key_missing"]);
  });

  test("names a total that was edited by hand", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme, tokens: 10 });
    await world.reconcile();
    await world.database
      .sql`update worker.usage_totals set tokens = tokens + 5 where tenant = ${acme}`;
    const { findings, facts } = await explain(acme);
    expect(findings).toEqual(["total_edited_outside_ledger"]);
    expect(facts.total.tokens).toBe("15");
    expect(facts.ledger.billed).toBe("10");
  });

  test("of a flushed Redis says that the log is another one, and what was lost", async () => {
    const acme = randomUUID();
    await world.record({ tenant: acme, tokens: 10 });
    await world.reconcile();
    await world.record({ tenant: acme, tokens: 7 });
    await observeShards(world.deps, testRun());
    await world.server.flush();
    expect((await explain(acme)).findings).toContain("lineage_changed");
    await world.reconcile();
    const { knownLost, findings } = await explain(acme);
    expect(knownLost).toBe("7");
    expect(findings).toContain("redis_key_missing");
  });

  test("stays exact beyond 2^53", async () => {
    const acme = randomUUID();
    for (let i = 0; i < 10; i += 1) {
      await world.record({ tenant: acme, tokens: 1_000_000_000_000_000 - i });
    }
    await world.reconcile();
    await world.record({ tenant: acme, tokens: 1 });
    const { identity } = await explain(acme);
    expect(identity).toMatchObject({
      recorded: "9999999999999956",
      booked: "9999999999999955",
      pending: "1",
      difference: "0",
    });
  });
});
