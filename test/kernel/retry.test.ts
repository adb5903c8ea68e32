import { expect, test } from "vitest";
import { permanent, transient } from "../../src/lib/kernel/errors.ts";
import { backoffMs, retry, retryAfterMs } from "../../src/lib/kernel/retry.ts";

const live = () => new AbortController().signal;

/** Fails with the given errors in turn, then succeeds; remembers the pauses between the attempts. */
function scenario(
  errors: readonly unknown[],
  options: { attempts?: number; signal?: AbortSignal } = {},
) {
  const pauses: number[] = [];
  let calls = 0;
  const work = async (attempt: number) => {
    calls++;
    expect(attempt).toBe(calls);
    if (calls <= errors.length) throw errors[calls - 1];
    return "done";
  };
  const run = () =>
    retry(work, {
      attempts: options.attempts ?? 5,
      baseMs: 100,
      capMs: 1000,
      signal: options.signal ?? live(),
      random: () => 0.5,
      sleep: async (ms) => void pauses.push(ms),
    });
  return { run, pauses, calls: () => calls };
}

const away = (details = {}) => transient("redis_unavailable", details);

test("work that succeeds is not repeated", async () => {
  const { run, pauses, calls } = scenario([]);
  expect(await run()).toBe("done");
  expect([calls(), pauses]).toEqual([1, []]);
});

test("a transient error is tried again after a pause that doubles up to the cap", async () => {
  const { run, pauses } = scenario([away(), away(), away(), away(), away()], { attempts: 6 });
  expect(await run()).toBe("done");
  expect(pauses).toEqual([50, 100, 200, 400, 500]);
});

test("an error nobody classified counts as transient", async () => {
  const { run, calls } = scenario([new Error("what is this")]);
  expect(await run()).toBe("done");
  expect(calls()).toBe(2);
});

test("a permanent error is not tried again", async () => {
  const error = permanent("redis_refused");
  const { run, calls } = scenario([error]);
  await expect(run()).rejects.toBe(error);
  expect(calls()).toBe(1);
});

test("the attempts are bounded, and the last error is the one the caller sees", async () => {
  const errors = [away({ code: "first" }), away({ code: "second" }), away({ code: "third" })];
  const { run, calls } = scenario(errors, { attempts: 3 });
  await expect(run()).rejects.toBe(errors[2]);
  expect(calls()).toBe(3);
});

test("a peer that asks for a longer pause gets it", async () => {
  const { run, pauses } = scenario([away({ retryAfterMs: 700 })]);
  await run();
  expect(pauses).toEqual([700]);
});

test("a peer that asks for more than the cap is not waited for", async () => {
  const error = away({ retryAfterMs: 1001 });
  const { run, pauses, calls } = scenario([error]);
  await expect(run()).rejects.toBe(error);
  expect([calls(), pauses]).toEqual([1, []]);
});

test("nothing starts under a signal that is aborted already", async () => {
  const { run, calls } = scenario([], { signal: AbortSignal.abort() });
  await expect(run()).rejects.toMatchObject({ kind: "transient", code: "deadline_exceeded" });
  expect(calls()).toBe(0);
});

test("an abort ends the pause at once with the error that caused it", async () => {
  const controller = new AbortController();
  const error = away();
  const startedAt = performance.now();
  const waiting = retry(
    async () => {
      setImmediate(() => controller.abort());
      throw error;
    },
    { attempts: 3, baseMs: 60_000, capMs: 60_000, signal: controller.signal, random: () => 0.9 },
  );
  await expect(waiting).rejects.toBe(error);
  expect(performance.now() - startedAt).toBeLessThan(1000);
});

test("the real pause lasts about as long as asked", async () => {
  const startedAt = performance.now();
  let calls = 0;
  await retry(
    async () => {
      if (calls++ === 0) throw away();
    },
    { attempts: 2, baseMs: 80, capMs: 80, signal: live(), random: () => 0.99 },
  );
  expect(performance.now() - startedAt).toBeGreaterThan(70);
});

test("a backoff with full jitter is anything from zero to the exponential delay", () => {
  const delay = (attempt: number, random: number) =>
    backoffMs(attempt, { baseMs: 30_000, capMs: 21_600_000, random: () => random });
  expect(delay(1, 0)).toBe(0);
  expect(delay(1, 0.9999)).toBe(29_997);
  expect(delay(4, 0.5)).toBe(120_000);
  expect(delay(500, 0.5)).toBe(10_800_000);
});

test.each([
  ["3", undefined, 3000],
  [" 0 ", undefined, 0],
  ["999999", undefined, 3_600_000],
  ["Sun, 22 Nov 2026 05:30:30 GMT", "Sun, 22 Nov 2026 05:30:00 GMT", 30_000],
  ["Sun, 22 Nov 2026 05:29:30 GMT", "Sun, 22 Nov 2026 05:30:00 GMT", 0],
  ["Sun, 22 Nov 2026 05:30:30 GMT", undefined, undefined],
  ["soon", undefined, undefined],
  ["-1", "Sun, 22 Nov 2026 05:30:00 GMT", undefined],
  ["", undefined, undefined],
])("Retry-After %o with Date %o means %o ms", (retryAfter, date, expected) => {
  const headers = new Headers({ "retry-after": retryAfter, ...(date && { date }) });
  expect(retryAfterMs(headers)).toBe(expected);
});
