import { afterAll, beforeAll, expect, test } from "vitest";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { redisSnapshots } from "../support/redis-snapshot.ts";
import { openUsageWorld, signal, type UsageWorld } from "../support/usage-world.ts";

/** A single amount makes another producer's entry look like ours: same number, same running sum. */
const TOKENS = 1_000_000_000_000_000;
const TENANT = "a|b";

let world: UsageWorld;
let snapshots: ReturnType<typeof redisSnapshots>;
beforeAll(async () => {
  world = await openUsageWorld({ leaseTtlMs: 1 });
  snapshots = redisSnapshots(world.server.url);
});
afterAll(async () => {
  snapshots.close();
  await world.close();
});

test("a lost use is recorded again although another producer's use has its number and running sum", async () => {
  const options = { redis: world.redis, verifyMs: 0 };
  const ours = createUsageProducer(options);
  const theirs = createUsageProducer(options);
  const use = (requestId: string, tokens: number) =>
    world.use({ tenant: TENANT, requestId, tokens });

  await ours.record(use("first", 0), signal);
  const snapshot = await snapshots.take();
  const lost = await ours.record(use("lost", TOKENS), signal);
  await snapshots.restore(snapshot);
  const inItsPlace = await theirs.record(use("in its place", TOKENS), signal);
  expect(inItsPlace).toEqual(lost);

  const next = await ours.record(use("next", 1), signal);
  expect(next.hasReplayed).toBe(true);
  await world.reconcile();
  const [booked] = await world.database.sql`
    select (select sum(tokens) from worker.usage_totals where tenant = ${TENANT})::text as tokens,
           (select coalesce(sum(tokens_lost - recovered), 0) from worker.usage_gaps)::text as open`;
  expect(booked).toEqual({ tokens: String(2n * BigInt(TOKENS) + 1n), open: "0" });
});
