import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeEntries, type LogRow } from "../../src/lib/usage/log-entry.ts";
import { type EntryParts, entry, NOW, start } from "./log-fixtures.ts";

const DAY_MS = 86_400_000;

describe("well-formed entries", () => {
  test("become uses, and the last one is the next anchor", () => {
    const batch = decodeEntries([entry({ n: 1, cum: 10 }), entry({ n: 2, cum: 20 })], start);
    expect(batch.uses.map((use) => use.tokens)).toEqual(["10", "10"]);
    expect(batch.bad).toEqual([]);
    expect(batch.end).toMatchObject({ n: "2", cum: "20", count: "2" });
    expect(batch.end.anchor).toMatch(/^[0-9a-f-]{36}@\d{16}$/);
  });

  test("a tenant may contain the separator, quotes and emoji", () => {
    const tenant = `Peña|"Nieto" 🐐`;
    const [use] = decodeEntries([entry({ n: 1, cum: 10, tenant })], start).uses;
    expect(use?.tenant).toBe(tenant);
  });

  test("credits are negative and amounts reach 10^15", () => {
    const rows = [
      entry({ n: 1, cum: "-5", tokens: "-5" }),
      entry({ n: 2, cum: "999999999999995", tokens: "1000000000000000" }),
    ];
    expect(decodeEntries(rows, start).uses.map((use) => use.tokens)).toEqual([
      "-5",
      "1000000000000000",
    ]);
  });

  test("a use that claims to lie ahead is billed in the period of its acceptance", () => {
    const ahead = { n: 1, cum: 10, occurredMs: NOW + 40 * DAY_MS, period: "202701" };
    const [use] = decodeEntries([entry(ahead)], start).uses;
    expect(use).toMatchObject({ period: 202_701, billPeriod: 202_611 });
  });

  test("ten minutes of a wrong clock change nothing within a month", () => {
    const [use] = decodeEntries([entry({ n: 1, cum: 10, occurredMs: NOW + 600_000 })], start).uses;
    expect(use).toMatchObject({ period: 202_611, billPeriod: 202_611 });
  });
});

describe("malformed entries", () => {
  const broken: [string, Partial<EntryParts>, string][] = [
    ["an amount with a leading zero", { tokens: "007" }, "tokens"],
    ["minus zero", { tokens: "-0" }, "tokens"],
    ["a fraction", { tokens: "1.5" }, "tokens"],
    ["more than 10^15", { tokens: "1000000000000001" }, "tokens"],
    ["an id that is no UUID", { uid: "nope" }, "uid"],
    ["no tenant", { tenant: "" }, "tenant"],
    ["a tenant with a control character", { tenant: "a\u0000b" }, "tenant"],
    ["month 13", { period: "202613" }, "period"],
    ["seconds instead of milliseconds", { occurredMs: NOW / 1000 }, "occurred"],
    ["an unknown type", { type: "audio" }, "type"],
    ["a use of five weeks ago", { occurredMs: NOW - 36 * DAY_MS }, "occurred_too_old"],
    ["a time of recording that is none", { recordedUs: "soon" }, "format"],
  ];

  test.each(broken)("%s is set aside with its raw value", (_, parts, error) => {
    const rows = [
      entry({ n: 1, cum: 10 }),
      entry({ n: 2, cum: 999, ...parts }),
      entry({ n: 3, cum: 20 }),
    ];
    const batch = decodeEntries(rows, start);
    expect(batch.uses.map((use) => use.uid)).toHaveLength(2);
    expect(batch.bad).toHaveLength(1);
    expect(batch.bad[0]).toMatchObject({ n: "2", error });
    expect(JSON.parse(batch.bad[0]?.raw ?? "")).toEqual(rows[1]?.fields);
  });

  test("a foreign entry does not move the running sum", () => {
    const foreign: LogRow = { n: "2", fields: ["d", "garbage"] };
    const batch = decodeEntries([entry({ n: 1, cum: 10 }), foreign], start);
    expect(batch.end).toEqual({ n: "2", cum: "10", count: "1", anchor: null });
    expect(batch.bad[0]?.tokens).toBeNull();
  });

  test("a malformed entry of our own counts in the running sum, so that it opens no gap", () => {
    const own = entry({ n: 2, cum: 17, tokens: "7", uid: "nope" });
    const batch = decodeEntries([entry({ n: 1, cum: 10 }), own], start);
    expect(batch.bad[0]?.tokens).toBe("7");
    expect(batch.end.cum).toBe("17");
  });

  test("NUL and lone surrogates become text that a database can hold", () => {
    const row: LogRow = { n: "1", fields: ["d", "a\u0000b\ud800"] };
    const raw = decodeEntries([row], start).bad[0]?.raw ?? "";
    expect(raw).toBe('["d","a\\u0000b\\ud800"]');
    expect(raw.isWellFormed()).toBe(true);
  });

  test("a huge entry is kept in part, with its length and hash", () => {
    const row: LogRow = { n: "1", fields: ["d", "x".repeat(1_000_000)] };
    const raw = decodeEntries([row], start).bad[0]?.raw ?? "";
    expect(raw.length).toBeLessThan(20_000);
    expect(raw).toMatch(/1000008 characters, sha256 [0-9a-f]{64}/);
  });

  test("whatever stands in the log, every entry is accounted for and none throws", () => {
    const field = fc.oneof(fc.string(), fc.constantFrom("d", "1|R|a|1|1|1|1|1", "|||||||||||||||"));
    const rows = fc.array(
      fc.record({ n: fc.nat().map(String), fields: fc.array(field, { maxLength: 4 }) }),
    );
    fc.assert(
      fc.property(rows, (list) => {
        const { uses, bad, markers } = decodeEntries(list, start);
        expect(uses.length + bad.length + markers.length).toBe(list.length);
      }),
    );
  });
});

describe("rewind markers", () => {
  test("carry what was acknowledged and what survived, and are no use", () => {
    const marker: LogRow = { n: "6", fields: ["d", "30|R|aaaaaaaa|5|50|3|30|3"] };
    const batch = decodeEntries([marker], start);
    expect(batch.markers).toEqual([
      {
        n: "6",
        oldInc: "aaaaaaaa",
        lastN: "5",
        lastCum: "50",
        survivingN: "3",
        survivingCum: "30",
      },
    ]);
    expect(batch.end).toEqual({ n: "6", cum: "30", count: "3", anchor: null });
  });
});
