import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { drainLegacy } from "../../src/lib/usage/legacy/drain-legacy.ts";
import { periodOf } from "../../src/lib/usage/usage-keys.ts";
import { type LegacyWorld, openLegacyWorld, PENDING_KEY, pendingRecord } from "../support/legacy-world.ts";
import { testRun } from "../support/test-run.ts";
import { signal } from "../support/usage-world.ts";

let world: LegacyWorld;
beforeAll(async () => {
  world = await openLegacyWorld();
  await world.drain(); // meets every counter once
});
afterAll(() => world.close());
afterEach(() => world.alerts.clear());

const tenantName = (name: string) => `${name}-${randomUUID()}`;
const books = (tokens: string) => ({ events: tokens, ledger: tokens, totals: tokens });

describe("the pending set", () => {
  test("is booked once, with its dimensions, and empty afterwards", async () => {
    const acme = tenantName("acme");
    await world.pend(
      pendingRecord({ tenant_id: acme, tokens: 7, agent_id: "a1", conversation_id: "c1" }),
      pendingRecord({ tenant_id: acme, tokens: 5, token_type: "embedding", model: "te-3" }),
    );
    const run = await world.drain();
    await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("12"));
    expect(await world.members()).toEqual([]);
    const total = await world.reads.total(acme, periodOf(Date.now()), signal);
    expect(total).toMatchObject({
      tokens: "12",
      used: "12",
      legacy: "12",
      breakdown: [
        { type: "embedding", model: "te-3", tokens: "5" },
        { type: "llm", model: "gpt-4o", tokens: "7" },
      ],
    });
    const [event] = await world.database.sql`
      select agent_id, conversation_id, b.lane from worker.usage_events e join worker.usage_batches b using (batch_id)
       where tenant = ${acme} and agent_id is not null`;
    expect(event).toEqual({ agent_id: "a1", conversation_id: "c1", lane: "legacy_pending" });
    const [row] = await world.database
      .sql`select status, booked, tokens from worker.usage_legacy_runs where run_id = ${run}`;
    expect(row).toEqual({ status: "succeeded", booked: "2", tokens: "12" });
  });
});
