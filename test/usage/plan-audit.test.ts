import { describe, expect, test } from "vitest";
import {
  firstWidth,
  isDone,
  monthBefore,
  narrower,
  nextWidth,
  rangeFrom,
} from "../../src/lib/usage/plan-audit.ts";

describe("the first width", () => {
  test.each([
    [0, 256],
    [2_000_000, 256],
    [4_000_000, 128],
    [512_000_000, 1],
    [1e15, 1],
  ])("for %i rows is %i shards", (rows, width) => {
    expect(firstWidth(rows)).toBe(width);
  });
});

describe("the next width", () => {
  test.each([
    [64, 10_001, 32],
    [64, 10_000, 64],
    [64, 3000, 64],
    [64, 2999, 128],
    [200, 1, 256],
    [1, 20_000, 1],
  ])("after %i shards in %i ms is %i", (width, tookMs, next) => {
    expect(nextWidth(width, tookMs)).toBe(next);
  });

  test("after a call that was given up is half, until a single shard is too much", () => {
    expect(narrower(9)).toBe(4);
    expect(narrower(2)).toBe(1);
    expect(narrower(1)).toBeUndefined();
  });
});

describe("the ranges", () => {
  test.each([1, 3, 64, 100, 255, 256])(
    "of width %i cover every shard once, and the rest",
    (width) => {
      let next = 0;
      let calls = 0;
      while (!isDone(next)) {
        const { from, to } = rangeFrom(next, width);
        expect(from).toBe(next);
        next = to + 1;
        calls += 1;
      }
      expect(next).toBe(65_536);
      expect(calls).toBe(Math.ceil(256 / width));
    },
  );
});

describe("the month before", () => {
  test.each([
    ["2026-12-01T04:00:00Z", 202_611],
    ["2027-01-01T00:00:00Z", 202_612],
    ["2026-03-31T23:59:59.999Z", 202_602],
    ["2026-02-28T23:59:59Z", 202_601],
  ])("%s is %i", (instant, period) => {
    expect(monthBefore(Date.parse(instant))).toBe(period);
  });
});
