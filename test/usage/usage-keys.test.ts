import { describe, expect, test } from "vitest";
import {
  counterExpiryOf,
  dayOf,
  dedupeBucketOf,
  eventIdOf,
  isPeriod,
  keysOf,
  periodOf,
  shardOf,
} from "../../src/lib/usage/usage-keys.ts";

/** The vectors of docs/reference/usage-producer.md: a client in any language must get exactly these. */
const VECTORS = [
  { tenant: "acme", requestId: "r1", shard: 62, uid: "6dbcf892-fc24-da1b-aefb-c0f8eacc3072" },
  {
    tenant: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    requestId: "42",
    shard: 152,
    uid: "161aab54-9a72-6b4d-cda4-2268e399dae3",
  },
  { tenant: "ñandú", requestId: "x|y", shard: 150, uid: "99c0f982-c9e3-8797-1bda-88380196e70c" },
] as const;

describe("the names every producer agrees on", () => {
  test.each(VECTORS)("$tenant lives in shard $shard", ({ tenant, requestId, shard, uid }) => {
    expect(shardOf(tenant)).toBe(shard);
    expect(eventIdOf(tenant, requestId)).toBe(uid);
  });

  test("a request id that already is a UUID is hashed with its tenant", () => {
    const uuid = "161aab54-9a72-6b4d-cda4-2268e399dae3";
    expect(eventIdOf("a", uuid)).not.toBe(eventIdOf("b", uuid));
    expect(eventIdOf("a", uuid)).not.toBe(uuid);
  });

  test("a separator inside the ids cannot make two requests one", () => {
    expect(eventIdOf("a|b", "c")).not.toBe(eventIdOf("a", "b|c"));
  });

  test("all keys of a shard share one hash tag", () => {
    const keys = keysOf(62);
    const all = [keys.meta, keys.log, keys.counter(202_611), keys.dedupe(498_701)];
    expect(all.every((key) => key.startsWith("{u:62}:"))).toBe(true);
    expect(new Set(all).size).toBe(4);
  });
});

describe("the time rules", () => {
  const instant = Date.UTC(2026, 10, 22, 5, 30);

  test("an instant has one period, day and bucket", () => {
    expect(instant).toBe(1_795_325_400_000);
    expect(periodOf(instant)).toBe(202_611);
    expect(dayOf(instant)).toBe(20_779);
    expect(dedupeBucketOf(instant)).toBe(498_701);
  });

  test("a counter outlives its period by 45 days", () => {
    expect(counterExpiryOf(202_611, instant)).toBe(1_799_971_200);
  });

  test("a counter of an old period never expires in the past", () => {
    const now = Date.UTC(2027, 5, 1);
    expect(counterExpiryOf(202_611, now)).toBe(now / 1000 + 7 * 86_400);
  });

  test("the month ends in UTC, also on New Year's Eve", () => {
    expect(periodOf(Date.UTC(2026, 11, 31, 23, 59, 59, 999))).toBe(202_612);
    expect(periodOf(Date.UTC(2027, 0, 1))).toBe(202_701);
  });

  test.each([
    [202_600, false],
    [202_613, false],
    [202_612, true],
    [199_912, false],
    [202_611.5, false],
    [Number.NaN, false],
  ])("%d is a period: %s", (period, expected) => {
    expect(isPeriod(period)).toBe(expected);
  });
});
