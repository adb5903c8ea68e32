import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { quarantineLedger } from "../../src/lib/usage/quarantine.supabase.ts";
import { type QuarantineLedger, retryQuarantined } from "../../src/lib/usage/quarantine.ts";
import { dayOf, keysOf, periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

let world: UsageWorld;
let ledger: QuarantineLedger;
let close: () => Promise<void>;
beforeAll(async () => {
  world = await openUsageWorld();
  const { url, key } = await world.database.supabase();
  const api = createRpc({ url, key });
  ledger = quarantineLedger(api.rpc);
  close = api.close;
});
afterAll(async () => {
  await close();
  await world.close();
});

const decision = { who: "ana", reason: "checked with the customer" };
const DAY_MS = 86_400_000;
const tenantName = (name: string) => `${name}-${randomUUID()}`;
const openOf = async (tenant: string) =>
  (await ledger.list({ tenant, isOpen: true, limit: 10 }, signal)).rows;

describe("an entry that was set aside", () => {
  test("because it is old is booked when a person says so, once, and its counter fits", async () => {
    const acme = tenantName("acme");
    const occurredAt = Date.now() - 40 * DAY_MS;
    await world.record({ tenant: acme, tokens: 77, occurredAt });
    await world.reconcile();
    const [entry] = await openOf(acme);
    expect(entry).toMatchObject({ error: "occurred_too_old", tokens: "77", tenant: acme });
    expect(await world.tokensOf(acme)).toBe("0");

    const first = await retryQuarantined(ledger, entry?.id ?? "", decision, signal);
    const second = await retryQuarantined(ledger, entry?.id ?? "", decision, signal);
    expect(first).toEqual({ kind: "booked", period: periodOf(occurredAt) });
    expect(second).toEqual({ kind: "resolved", resolution: "booked" });
    expect(await world.tokensOf(acme)).toBe("77");
    expect(await openOf(acme)).toEqual([]);
    const total = await world.reads.total(acme, periodOf(occurredAt), signal);
    expect(total).toMatchObject({ tokens: "77", used: "77", quarantined: 0 });
  });

  test("is booked once, however many people decide at the same time", async () => {
    const acme = tenantName("acme");
    await world.record({ tenant: acme, tokens: 5, occurredAt: Date.now() - 50 * DAY_MS });
    await world.reconcile();
    const [entry] = await openOf(acme);
    const decided = await Promise.all(
      Array.from({ length: 8 }, () => retryQuarantined(ledger, entry?.id ?? "", decision, signal)),
    );
    expect(decided.filter(({ kind }) => kind === "booked")).toHaveLength(1);
    expect(await world.tokensOf(acme)).toBe("5");
  });

  test("whose use was booked meanwhile is a duplicate and resolved", async () => {
    const acme = tenantName("acme");
    const occurredAt = Date.now() - 45 * DAY_MS;
    const use = await world.record({ tenant: acme, tokens: 9, occurredAt });
    await world.reconcile();
    const [entry] = await openOf(acme);
    await world.database.sql`
      insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
      select date '1970-01-01' + ${dayOf(use.occurredAt)}::int, ${periodOf(occurredAt)}, 9, 0,
             split_part(raw::jsonb ->> 1, '|', 2)::uuid, ${acme}, 'llm', '' from worker.usage_quarantine where id = ${entry?.id ?? ""}`;
    const decided = await retryQuarantined(ledger, entry?.id ?? "", decision, signal);
    expect(decided.kind).toBe("duplicate");
    expect(await world.tokensOf(acme)).toBe("0");
  });

  test("and is discarded is never booked, with who and why", async () => {
    const acme = tenantName("acme");
    await world.record({ tenant: acme, occurredAt: Date.now() - 60 * DAY_MS });
    await world.reconcile();
    const [entry] = await openOf(acme);
    expect(await ledger.discard(entry?.id ?? "", decision, signal)).toEqual({ kind: "discarded" });
    expect(await retryQuarantined(ledger, entry?.id ?? "", decision, signal)).toEqual({
      kind: "resolved",
      resolution: "discarded",
    });
    const { rows } = await ledger.list({ tenant: acme, isOpen: false, limit: 10 }, signal);
    expect(rows).toMatchObject([{ resolvedBy: "ana", reason: "checked with the customer" }]);
    expect(await world.tokensOf(acme)).toBe("0");
  });

  test("that is malformed cannot be booked, and stays where it is", async () => {
    const shard = shardOf("acme");
    const { log } = keysOf(shard);
    await world.record({ tenant: "acme" });
    await world.redis.command(["XADD", log, "*", "d", "garbage"], signal);
    await world.record({ tenant: "acme" });
    await world.reconcile();
    const { rows } = await ledger.list({ error: "format", isOpen: true, limit: 10 }, signal);
    const mine = rows.find((row) => row.shard === shard);
    await expect(retryQuarantined(ledger, mine?.id ?? "", decision, signal)).rejects.toMatchObject({
      code: "usage_quarantine_not_bookable",
    });
    expect((await ledger.find(mine?.id ?? "", signal))?.resolvedAt).toBeNull();
  });

  test("that nobody knows is named as unknown", async () => {
    await expect(retryQuarantined(ledger, "999999", decision, signal)).rejects.toMatchObject({
      code: "usage_quarantine_unknown",
    });
    expect(await ledger.discard("999999", decision, signal)).toEqual({ kind: "unknown" });
  });
});

test("pages go on where the one before ended", async () => {
  const acme = tenantName("acme");
  for (let i = 0; i < 5; i += 1) {
    await world.record({ tenant: acme, occurredAt: Date.now() - (40 + i) * DAY_MS });
  }
  await world.reconcile();
  const first = await ledger.list({ tenant: acme, isOpen: true, limit: 3 }, signal);
  const before = first.next ?? undefined;
  const second = await ledger.list({ tenant: acme, isOpen: true, limit: 3, before }, signal);
  expect(first.rows).toHaveLength(3);
  expect(second.rows).toHaveLength(2);
  expect(second.next).toBeNull();
  expect(new Set([...first.rows, ...second.rows].map((row) => row.id)).size).toBe(5);
});
