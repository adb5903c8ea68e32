import { expect, test } from "vitest";
import { permanent, transient } from "../../src/lib/kernel/errors.ts";
import { coalesce } from "../../src/lib/queue/coalesce.ts";

const signal = new AbortController().signal;

/** A peer that answers each with its double, and what travelled together. */
function peer(fail: (batch: readonly number[]) => Error | undefined = () => undefined) {
  const batches: number[][] = [];
  const call = coalesce(async (batch: readonly number[]) => {
    batches.push([...batch]);
    await Promise.resolve();
    const error = fail(batch);
    if (error !== undefined) throw error;
    return batch.map((n) => n * 2);
  }, 3);
  return { batches, call };
}

test("calls of one moment travel together, at most as many as may, and each gets its own answer", async () => {
  const { batches, call } = peer();
  expect(await Promise.all([1, 2, 3, 4].map((n) => call(n, signal)))).toEqual([2, 4, 6, 8]);
  expect(batches).toEqual([[1, 2, 3], [4]]);
});

test("a lone call waits for nobody", async () => {
  const { batches, call } = peer();
  expect(await call(5, signal)).toBe(10);
  expect(await call(6, signal)).toBe(12);
  expect(batches).toEqual([[5], [6]]);
});

test("one that is refused for good does not spoil the others", async () => {
  const { call } = peer((batch) => (batch.includes(2) ? permanent("database_refused") : undefined));
  const answers = await Promise.allSettled([1, 2, 3].map((n) => call(n, signal)));
  expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

test("a peer that is away is said to each, and asked once", async () => {
  const { batches, call } = peer(() => transient("database_unavailable"));
  const answers = await Promise.allSettled([1, 2].map((n) => call(n, signal)));
  expect(answers.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(batches).toHaveLength(1);
});

test("a caller that gives up does not stop the others", async () => {
  const { call } = peer();
  const giveUp = AbortSignal.abort(transient("deadline_exceeded"));
  const answers = await Promise.allSettled([call(1, giveUp), call(2, signal)]);
  expect(answers.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
});
