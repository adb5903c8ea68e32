import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { transient } from "../../src/lib/kernel/errors.ts";
import { type Probes, probeBackends } from "../../src/lib/ops/probe-backends.ts";

const NOW = Date.parse("2026-11-24T12:00:00Z");
const clock = { now: () => NOW };
const onTime = { installedAt: 0, writtenUntil: { a: Date.parse("2026-11-24T02:00:00Z") } };
const watchedJobs = [{ id: "a", schedule: "0 2 * * *", isCritical: true }];

const HEALTHY: Probes = {
  cache: async () => {},
  database: async () => {},
  scheduler: async () => onTime,
};

const check = (probes: Partial<Probes>) =>
  probeBackends({ clock, probes: { ...HEALTHY, ...probes }, watchedJobs });

const answersIn = <T>(ms: number, value: T) =>
  new Promise<T>((resolve) => {
    setTimeout(() => resolve(value), ms);
  });
/** Ends with its signal, as our adapters do. */
const endsOnAbort = (signal: AbortSignal) =>
  new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  });
/** Never ends, whatever the signal says. */
const ignoresAbort = () => new Promise<never>(() => {});
const fails = () => Promise.reject(transient("redis_unavailable"));
const throwsAtOnce = (): never => {
  throw new Error("thrown at once");
};

describe("probing", () => {
  test("finds everything available, and says since when", async () => {
    expect(await check({})).toEqual({
      cache: "available",
      database: "available",
      scheduler: "available",
      checkedAt: NOW,
    });
  });

  test.each([
    ["fails", fails],
    ["throws at once", throwsAtOnce],
  ])("takes what %s for unavailable, and only that", async (_what, probe) => {
    expect(await check({ cache: probe })).toMatchObject({
      cache: "unavailable",
      database: "available",
      scheduler: "available",
    });
    expect(await check({ database: probe })).toMatchObject({
      cache: "available",
      database: "unavailable",
      scheduler: "available",
    });
    expect(await check({ scheduler: probe })).toMatchObject({
      cache: "available",
      database: "available",
      scheduler: "unavailable",
    });
  });

  test("judges the scheduler by the schedule and the slots it wrote down", async () => {
    const writtenUntil = { a: Date.parse("2026-11-23T02:00:00Z") };
    const scheduler = async () => ({ installedAt: 0, writtenUntil });
    expect(await check({ scheduler })).toMatchObject({ scheduler: "degraded" });
  });

  test("takes facts that make no sense for unavailable", async () => {
    const scheduler = async () => ({ installedAt: Number.NaN, writtenUntil: {} });
    expect(await check({ scheduler })).toMatchObject({ scheduler: "unavailable" });
  });
});

describe("a backend that is slow", () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
  afterEach(() => vi.useRealTimers());

  test.each([
    [299, "available"],
    [301, "degraded"],
    [699, "degraded"],
    [701, "unavailable"],
  ])("and answers after %i ms is %s", async (ms, status) => {
    const health = check({
      cache: () => answersIn(ms, undefined),
      database: () => answersIn(ms, undefined),
    });
    await vi.advanceTimersByTimeAsync(Math.min(ms, 700));
    expect(await health).toMatchObject({ cache: status, database: status });
  });

  test.each([
    ["listens to its signal", endsOnAbort],
    ["ignores its signal", ignoresAbort],
  ])("without end and %s is unavailable after 0.7 s, and holds nobody up", async (_what, hangs) => {
    for (const name of ["cache", "database", "scheduler"] as const) {
      const health = check({ [name]: hangs });
      await vi.advanceTimersByTimeAsync(700);
      expect(await health).toEqual({
        cache: "available",
        database: "available",
        scheduler: "available",
        checkedAt: NOW,
        [name]: "unavailable",
      });
    }
    const all = check({ cache: hangs, database: hangs, scheduler: hangs });
    await vi.advanceTimersByTimeAsync(700);
    expect(await all).toMatchObject({
      cache: "unavailable",
      database: "unavailable",
      scheduler: "unavailable",
    });
  });

  test("leaves no timer behind when it answers", async () => {
    await check({});
    await check({ cache: fails });
    expect(vi.getTimerCount()).toBe(0);
  });
});

test("all backends are asked at the same time", async () => {
  const asked: string[] = [];
  const ask = (name: string) => async () => {
    asked.push(name);
    await answersIn(20, undefined);
    asked.push(`${name} answered`);
  };
  await check({ cache: ask("cache"), database: ask("database") });
  expect(asked.slice(0, 2)).toEqual(["cache", "database"]);
});
