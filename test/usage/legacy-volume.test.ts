import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { availableRedis } from "../../local/backends/redis.ts";
import {
  type LegacyWorld,
  openLegacyWorld,
  PENDING_KEY,
  pendingRecord,
} from "../support/legacy-world.ts";
import { signal } from "../support/usage-world.ts";

const MEMBERS = 100_000;
const TENANTS = 2000;
const CHUNK = 1000;
/** More than a page and its booking, far less than the set: 100,000 members are some 30 MB of text alone. */
const HEAP_GROWTH_MAX = 100 * 1024 * 1024;

// The embedded Redis is slow on large keys.
describe.skipIf(availableRedis() !== "redis-server")("a large pending set", () => {
  let world: LegacyWorld;
  beforeAll(async () => {
    world = await openLegacyWorld({ counterPattern: undefined });
  });
  afterAll(() => world.close());

  async function pendMany(): Promise<void> {
    const tenants = Array.from({ length: TENANTS }, (_, i) => `tenant-${i}`);
    for (let from = 0; from < MEMBERS; from += CHUNK) {
      const records = Array.from({ length: CHUNK }, (_, i) =>
        pendingRecord({
          tenant_id: tenants[(from + i) % TENANTS],
          tokens: (from + i) % 97,
          operation: randomUUID(),
        }),
      );
      await world.pend(...records);
    }
  }

  test("of a hundred thousand members is booked page by page, in bounded memory", async () => {
    await pendMany();
    expect(await world.redis.command(["SCARD", PENDING_KEY], signal)).toBe(MEMBERS);
    const { pendingLedger } = world.deps;
    const heapBefore = process.memoryUsage().heapUsed;
    let [pages, largest, heapMax] = [0, 0, 0];
    const startedAt = performance.now();
    await world.drain({
      ...world.deps,
      pendingLedger: {
        book: async (runId, plan, own) => {
          pages += 1;
          largest = Math.max(largest, plan.uses.length);
          heapMax = Math.max(heapMax, process.memoryUsage().heapUsed);
          return pendingLedger.book(runId, plan, own);
        },
      },
    });
    const seconds = (performance.now() - startedAt) / 1000;
    console.info(
      `${pages} pages of at most ${largest}, ${Math.round(MEMBERS / seconds)} records/s`,
    );
    const expected = Array.from({ length: MEMBERS }, (_, i) => i % 97).reduce(
      (sum, n) => sum + n,
      0,
    );
    const [row] = await world.database.sql`
    select sum(tokens)::text as tokens, sum(events)::int as events, count(*)::int as tenants from worker.usage_totals`;
    expect(row).toEqual({ tokens: String(expected), events: MEMBERS, tenants: TENANTS });
    expect(await world.members()).toEqual([]);
    expect(largest).toBeLessThan(2000);
    expect(heapMax - heapBefore).toBeLessThan(HEAP_GROWTH_MAX);
  }, 180_000);
});
