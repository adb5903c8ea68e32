import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import {
  abortError,
  callWithin,
  limitCalls,
  untilAborted,
  withDeadline,
} from "../../src/lib/kernel/deadline.ts";
import { transient } from "../../src/lib/kernel/errors.ts";

const live = () => new AbortController().signal;
const never = () => new Promise<never>(() => {});
const timedOut = () => transient("redis_unavailable", { code: "TIMEOUT" });
const deadlineExceeded = { kind: "transient", code: "deadline_exceeded" };

test("a deadline aborts after its time", async () => {
  const signal = withDeadline(live(), 10);
  await expect(untilAborted(never(), signal)).rejects.toMatchObject(deadlineExceeded);
});

test("a deadline aborts with its parent", async () => {
  const parent = new AbortController();
  const waiting = untilAborted(never(), withDeadline(parent.signal, 60_000));
  parent.abort();
  await expect(waiting).rejects.toMatchObject(deadlineExceeded);
});

test("a deadline that passed leaves nothing on its parent", async () => {
  const parent = live();
  const signal = withDeadline(parent, 10);
  expect(getEventListeners(parent, "abort")).toHaveLength(1);
  await expect(untilAborted(never(), signal)).rejects.toMatchObject({ details: { ms: 10 } });
  expect(getEventListeners(parent, "abort")).toEqual([]);
  expect(withDeadline(AbortSignal.abort(), 10).aborted).toBe(true);
});

test("a deadline longer than a timer can hold does not fire at once", async () => {
  const signal = withDeadline(live(), Number.MAX_SAFE_INTEGER);
  expect(
    await untilAborted(new Promise((resolve) => setTimeout(resolve, 20, "kept")), signal),
  ).toBe("kept");
  expect(signal.aborted).toBe(false);
});

test("waiting ends with the promise when that is first, and leaves no listener behind", async () => {
  const signal = live();
  expect(await untilAborted(Promise.resolve("value"), signal)).toBe("value");
  await expect(untilAborted(Promise.reject(new Error("own")), signal)).rejects.toThrow("own");
  await expect.poll(() => getEventListeners(signal, "abort")).toEqual([]);
});

test("what a promise ends with after the abort is dropped quietly", async () => {
  let fail = (_: Error) => {};
  const late = new Promise<never>((_, reject) => {
    fail = reject;
  });
  await expect(untilAborted(late, AbortSignal.abort())).rejects.toMatchObject(deadlineExceeded);
  fail(new Error("too late")); // an unhandled rejection would fail the run
  await new Promise(setImmediate);
});

test("an abort with one of our errors keeps that error", () => {
  const reason = transient("redis_unavailable", { code: "CLOSED" });
  expect(abortError(AbortSignal.abort(reason))).toBe(reason);
  expect(abortError(AbortSignal.abort("gone"))).toMatchObject({
    ...deadlineExceeded,
    cause: "gone",
  });
});

test("a call ends by its own limit even when the work does not listen", async () => {
  const startedAt = performance.now();
  const calling = callWithin({ signal: live(), timeoutMs: 30, timedOut }, never);
  await expect(calling).rejects.toMatchObject({ details: { code: "TIMEOUT" } });
  expect(performance.now() - startedAt).toBeLessThan(1000);
});

test("a call ends with its caller's signal, and the work sees the abort", async () => {
  const caller = new AbortController();
  let seen: AbortSignal | undefined;
  const calling = callWithin({ signal: caller.signal, timeoutMs: 60_000, timedOut }, (signal) => {
    seen = signal;
    return never();
  });
  caller.abort();
  await expect(calling).rejects.toMatchObject(deadlineExceeded);
  expect(seen?.aborted).toBe(true);
});

test("nothing is called under a signal that is aborted already", async () => {
  let calls = 0;
  const work = async () => calls++;
  const calling = callWithin({ signal: AbortSignal.abort(), timeoutMs: 1000, timedOut }, work);
  await expect(calling).rejects.toMatchObject(deadlineExceeded);
  expect(calls).toBe(0);
});

test("a call that ended keeps neither a timer nor a listener", async () => {
  const signal = live();
  const timersBefore = activeTimers();
  await callWithin({ signal, timeoutMs: 60_000, timedOut }, async () => "done");
  await callWithin({ signal, timeoutMs: 60_000, timedOut }, () => Promise.reject(timedOut())).catch(
    () => {},
  );
  expect(activeTimers()).toBe(timersBefore);
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

const activeTimers = () =>
  process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length;

const peer = (overrides = {}) =>
  limitCalls({
    timeoutMs: 60_000,
    inFlightMax: 2,
    unavailable: (code) => transient("redis_unavailable", { code }),
    ...overrides,
  });

test("one call too many fails at once, and there is room again when one has ended", async () => {
  const calls = peer();
  const ends: (() => void)[] = [];
  const slow = () => new Promise<void>((resolve) => ends.push(resolve));
  const first = calls.run(live(), slow);
  const second = calls.run(live(), slow);
  await expect(calls.run(live(), slow)).rejects.toMatchObject({ details: { code: "BACKLOG" } });
  ends[0]?.();
  await first;
  expect(await calls.run(live(), async () => "room")).toBe("room");
  ends[1]?.();
  await second;
});

test("closing ends the calls in flight and refuses later ones", async () => {
  const calls = peer();
  const closed = { kind: "transient", code: "redis_unavailable", details: { code: "CLOSED" } };
  const inFlight = calls.run(live(), never);
  calls.close();
  await expect(inFlight).rejects.toMatchObject(closed);
  await expect(calls.run(live(), async () => "late")).rejects.toMatchObject(closed);
});

test("a slow peer is named as the reason, not the caller's deadline", async () => {
  const calling = peer({ timeoutMs: 20 }).run(live(), never);
  await expect(calling).rejects.toMatchObject({
    code: "redis_unavailable",
    details: { code: "TIMEOUT" },
  });
});
