import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENCODINGS } from "../../src/lib/ops/export-format.ts";
import { lastWeek, planFiles } from "../../src/lib/ops/exports-plan.ts";

describe("the last week that is over", () => {
  test.each([
    ["2026-11-22T02:00:00Z", "2026-11-15"],
    ["2026-11-22T00:05:00Z", "2026-11-08"], // transactions of Saturday may still commit
    ["2026-11-22T00:10:00Z", "2026-11-15"],
    ["2026-11-28T23:59:59Z", "2026-11-15"],
    ["2026-11-29T00:10:00Z", "2026-11-22"],
    ["2027-01-03T02:00:00Z", "2026-12-27"],
  ])("at %s began on %s", (now, week) => {
    expect(lastWeek(Date.parse(now))).toBe(week);
  });
});

describe("the files of an export", () => {
  test("cover all ledger rows, each in one file", () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 12n), fc.bigInt(0n, 20_000_000n), (after, span) => {
        const to = after + span;
        const files = planFiles({
          week: "2026-11-15",
          ledgerAfter: String(after),
          ledgerTo: String(to),
        });
        const ranges = files.flatMap(({ source }) => (source.kind === "ledger" ? [source] : []));
        let at = after;
        for (const range of ranges) {
          expect(BigInt(range.after)).toBe(at);
          expect(BigInt(range.to)).toBeGreaterThan(at);
          at = BigInt(range.to);
        }
        expect(at).toBe(to);
        expect(new Set(files.map(({ name }) => name)).size).toBe(files.length);
      }),
    );
  });

  test("hold the totals of both months of a week that lies in two", () => {
    const files = planFiles({ week: "2026-12-27", ledgerAfter: "0", ledgerTo: "0" });
    expect(files.find(({ name }) => name === "usage-totals")?.source).toEqual({
      kind: "totals",
      periods: [202612, 202701],
    });
  });
});

describe("CSV", () => {
  test.each([
    ["plain", "plain"],
    ["a,b", '"a,b"'],
    ['say "hi"', '"say ""hi"""'],
    ["two\nlines", '"two\nlines"'],
    ["=1+1", "'=1+1"],
    ["+x", "'+x"],
    ["@x", "'@x"],
    ["-5", "-5"],
    ["-5.25", "-5.25"],
    ["-5+cmd|x", "'-5+cmd|x"],
    ["\tx", "'\tx"],
  ])("writes %j as %j", (cell, text) => {
    expect(ENCODINGS.csv.rows(["a"], [[cell]])).toBe(`${text}\r\n`);
  });

  test("writes nothing for what is not there, and numbers as they are", () => {
    expect(ENCODINGS.csv.rows(["a", "b", "c"], [[null, -5, ""]])).toBe(",-5,\r\n");
  });
});
