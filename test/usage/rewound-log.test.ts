import { afterAll, beforeAll, expect, test } from "vitest";
import { RECORD_USAGE } from "../../src/lib/usage/record-usage.lua.ts";
import { keysOf } from "../../src/lib/usage/usage-keys.ts";
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

test("a client that knows no anchor is served by the same script", async () => {
  const { meta, log, counter, dedupe } = keysOf(7);
  const at = Date.now();
  const call = (uid: string, quoted: readonly [string, string, string]) => {
    const [inc, n, sum] = quoted;
    const expiry = String(Math.floor(at / 1000) + 3600);
    const use = [uid, "old", "5", "202611", String(at), expiry, "7800", "lineage1"];
    return world.redis.scripts(
      [
        {
          script: RECORD_USAGE,
          keys: [meta, log, counter(202611), dedupe(1), dedupe(0)],
          args: [...use, inc, n, sum, "", sum === "" ? "0" : sum, "llm|||"],
        },
      ],
      signal,
    );
  };
  const uid = (last: number) => `00000000-0000-0000-0000-00000000000${last}`;
  const [first] = await call(uid(1), ["", "0", ""]);
  expect(first).toMatchObject([1, "5", "1", "5", "lineage1", expect.stringMatching(/^0.*1@\d+$/)]);
  const [second] = await call(uid(2), ["lineage1", "1", "5"]);
  expect(second).toMatchObject([1, "10", "2", "10", "lineage1", expect.any(String)]);
});
