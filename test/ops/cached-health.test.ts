import { describe, expect, test } from "vitest";
import { cachedHealth } from "../../src/lib/ops/cached-health.ts";
import type { ComponentStatus, Health } from "../../src/lib/ops/probe-backends.ts";

/** A clock that is set, and probes that answer when they are told to. */
function openCache() {
  const clock = { at: 1_000_000, now: () => clock.at };
  const waiting: ((cache: ComponentStatus | Error) => void)[] = [];
  let probes = 0;
  const probe = (): Promise<Health> => {
    probes += 1;
    const checkedAt = clock.at;
    return new Promise((resolve, reject) => {
      waiting.push((cache) => {
        if (cache instanceof Error) reject(cache);
        else resolve({ cache, database: "available", scheduler: "available", checkedAt });
      });
    });
  };
  /** Ends all probes that run. */
  const answer = (cache: ComponentStatus | Error) => {
    for (const end of waiting.splice(0)) end(cache);
  };
  return { clock, answer, probes: () => probes, cache: cachedHealth(clock, probe) };
}

const readMany = (read: () => Promise<Health>, count: number) =>
  Promise.all(Array.from({ length: count }, read));

describe("reading the health", () => {
  test("probes once for a thousand reads at the same time", async () => {
    const { cache, answer, probes } = openCache();
    const reads = readMany(cache.read, 1000);
    answer("available");
    expect(new Set(await reads).size).toBe(1);
    expect(probes()).toBe(1);
  });

  test("probes at most once a second at a thousand reads a second", async () => {
    const { cache, clock, answer, probes } = openCache();
    for (let ms = 0; ms < 10_000; ms++) {
      const read = cache.read();
      answer("available");
      await read;
      clock.at += 1;
    }
    expect(probes()).toBe(10);
  });

  test("never shows what is older than two seconds, at any rate of reading", async () => {
    const { cache, clock, answer } = openCache();
    for (const pauseMs of [1, 250, 999, 1000, 1001, 1500, 1999, 2000, 2001, 60_000]) {
      clock.at += pauseMs;
      const read = cache.read();
      answer("available");
      const { checkedAt } = await read;
      expect(clock.at - checkedAt).toBeLessThan(2000);
    }
  });

  test("shows the known answer while a probe runs behind it, and then the new one", async () => {
    const { cache, clock, answer, probes } = openCache();
    const first = cache.read();
    answer("available");
    await first;
    clock.at += 1500;
    expect(await cache.read()).toMatchObject({ cache: "available" });
    expect(probes()).toBe(2);
    answer("unavailable");
    await Promise.resolve();
    expect(await cache.read()).toMatchObject({ cache: "unavailable" });
    expect(probes()).toBe(2);
  });

  test("waits for the probe once the known answer is two seconds old", async () => {
    const { cache, clock, answer } = openCache();
    const first = cache.read();
    answer("available");
    await first;
    clock.at += 2000;
    const read = cache.read();
    const early = await Promise.race([read, Promise.resolve("waiting")]);
    expect(early).toBe("waiting");
    answer("unavailable");
    expect(await read).toMatchObject({ cache: "unavailable" });
  });

  test("probes again when the clock was set back", async () => {
    const { cache, clock, answer, probes } = openCache();
    const first = cache.read();
    answer("available");
    await first;
    clock.at -= 3_600_000;
    const read = cache.read();
    answer("unavailable");
    expect(await read).toMatchObject({ cache: "unavailable" });
    expect(probes()).toBe(2);
  });
});

describe("a probe that fails", () => {
  test("fails its reads and is tried again with the next", async () => {
    const { cache, answer, probes } = openCache();
    const reads = Promise.allSettled([cache.read(), cache.read()]);
    answer(new Error("cannot probe"));
    expect((await reads).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    const next = cache.read();
    answer("available");
    expect(await next).toMatchObject({ cache: "available" });
    expect(probes()).toBe(2);
  });

  test("behind a known answer disturbs nobody", async () => {
    const { cache, clock, answer } = openCache();
    const first = cache.read();
    answer("available");
    await first;
    clock.at += 1500;
    expect(await cache.read()).toMatchObject({ cache: "available" });
    answer(new Error("cannot probe")); // an unhandled rejection would fail this file
    await new Promise((resolve) => setImmediate(resolve));
    const next = cache.read();
    answer("degraded");
    await new Promise((resolve) => setImmediate(resolve));
    await next;
    expect(await cache.read()).toMatchObject({ cache: "degraded" });
  });

  test("by throwing at once does not stick", async () => {
    let probes = 0;
    const cache = cachedHealth({ now: () => 0 }, () => {
      probes += 1;
      throw new Error("thrown at once");
    });
    await expect(cache.read()).rejects.toThrow("thrown at once");
    await expect(cache.read()).rejects.toThrow("thrown at once");
    expect(probes).toBe(2);
  });
});
