import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  nextSlot,
  planSlots,
  type SlotRule,
  upcomingSlots,
} from "../../src/lib/jobs/plan-slots.ts";
import {
  changesOf,
  MINUTE,
  type OracleRule,
  oracleSlots,
  type Walk,
  walk,
  wallOf,
} from "./slot-oracle.ts";

const DAY = 86_400_000;
const ALL = Number.POSITIVE_INFINITY;
const utc = (text: string) => Date.parse(`${text}Z`);
const daily = (hour: number, minute: number) => (of: number) => of === hour * 60 + minute;

const SCHEDULES: readonly [string, OracleRule["matches"], boolean][] = [
  ["0 0 * * *", daily(0, 0), false],
  ["30 0 * * *", daily(0, 30), false],
  ["30 1 * * *", daily(1, 30), false],
  ["0 2 * * *", daily(2, 0), false],
  ["30 2 * * *", daily(2, 30), false],
  ["0 3 * * *", daily(3, 0), false],
  ["45 23 * * *", daily(23, 45), false],
  ["0 */2 * * *", (of) => of % 120 === 0, false],
  ["*/15 * * * *", (of) => of % 15 === 0, true],
  ["0 * * * *", (of) => of % 60 === 0, true],
];
const RULES = [
  { overlap: "first", gap: "shift" },
  { overlap: "last", gap: "skip" },
  { overlap: "both", gap: "shift" },
] as const;

const walks = new Map<string, Walk>();
/** Zones that change alike share a walk. */
function walkAround(zone: string, change: number): Walk {
  const [from, to] = [change - 2 * DAY, change + 2 * DAY];
  const key = [from, wallOf(zone, from), wallOf(zone, to)].join();
  const known = walks.get(key) ?? walk(zone, from, to);
  walks.set(key, known);
  return known;
}

const expectations = new Map<string, number[]>();
function expectedOf(
  known: Walk,
  rule: OracleRule & { schedule: string },
  after: number,
  until: number,
) {
  const key = [
    known.steps[0]?.at,
    known.steps[0]?.wall,
    known.steps.at(-1)?.wall,
    rule.schedule,
    rule.overlap,
  ].join();
  const expected = expectations.get(key) ?? oracleSlots(known, rule, after, until);
  expectations.set(key, expected);
  return expected;
}

function compare(zone: string, change: number): string[] {
  const known = walkAround(zone, change);
  const [after, until] = [change - DAY, change + DAY];
  return SCHEDULES.flatMap(([schedule, matches, isEveryHour]) =>
    RULES.flatMap((dst) => {
      const rule = { schedule, timeZone: zone, dst };
      const planned = planSlots(rule, after, until, ALL).map(({ at }) => at);
      const expected = expectedOf(known, { schedule, matches, isEveryHour, ...dst }, after, until);
      const text = (slots: number[]) => slots.map((at) => new Date(at).toISOString()).join(" ");
      const isEqual = text(planned) === text(expected);
      return isEqual
        ? []
        : [`${zone} ${schedule} ${dst.overlap}/${dst.gap}: ${text(planned)} ≠ ${text(expected)}`];
    }),
  );
}

describe("slots around clock changes", () => {
  test("follow the rule in every zone there is, as a walk through Intl finds them", () => {
    const [from, to] = [utc("2026-01-01T00:00"), utc("2027-01-01T00:00")];
    let compared = 0;
    const wrong = Intl.supportedValuesOf("timeZone").flatMap((zone) =>
      changesOf(zone, from, to).flatMap((change) => {
        compared += 1;
        return compare(zone, change);
      }),
    );
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(200);
  }, 120_000);

  test.each([
    ["Australia/Lord_Howe", "2026-04-04T15:00", "half an hour back"],
    ["Australia/Lord_Howe", "2026-10-03T15:30", "half an hour forward"],
    ["America/Sao_Paulo", "2018-11-04T03:00", "a gap at midnight"],
    ["America/Sao_Paulo", "2018-02-18T02:00", "midnight twice"],
    ["Pacific/Apia", "2011-12-30T10:00", "a day that does not exist"],
    ["Asia/Pyongyang", "2018-05-04T15:00", "half an hour forward for good"],
    ["America/Caracas", "2016-05-01T07:00", "half an hour forward at 02:30"],
    ["Africa/Casablanca", "2026-02-15T02:00", "an hour back for Ramadan"],
  ])("follow the rule in %s at %s: %s", (zone, at) => {
    expect(changesOf(zone, utc(at) - DAY, utc(at) + DAY)).toContain(utc(at));
    expect(compare(zone, utc(at))).toEqual([]);
  });

  test("are marked when their time occurs twice or was moved", () => {
    const rule = { schedule: "30 2 * * *", timeZone: "Europe/Madrid", dst: RULES[2] };
    const marks = (after: string) =>
      planSlots(rule, utc(after), utc(after) + DAY, ALL).map(({ clockChange }) => clockChange);
    expect(marks("2026-03-28T12:00")).toEqual(["shifted"]);
    expect(marks("2026-10-24T12:00")).toEqual(["repeated", "repeated"]);
    expect(marks("2026-11-24T12:00")).toEqual([undefined]);
  });
});

describe("an interval", () => {
  test.each(["*/15 * * * *", "*/30 * * * *", "0 * * * *"])("of %s never pauses", (schedule) => {
    const zones = ["Europe/Madrid", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu"];
    for (const timeZone of zones) {
      const rule = { schedule, timeZone, dst: { overlap: "first", gap: "skip" } } as const;
      const slots = planSlots(rule, utc("2026-01-01T00:00"), utc("2027-01-01T00:00"), ALL);
      const pauses = slots.slice(1).map(({ at }, i) => at - (slots[i]?.at ?? 0));
      // An hourly slot of Lord Howe meets half an hour twice.
      expect(Math.max(...pauses)).toBeLessThanOrEqual(
        schedule.startsWith("0") ? 90 * MINUTE : 30 * MINUTE,
      );
    }
  });
});

describe("planning", () => {
  const everywhere = fc.constantFrom(
    "UTC",
    "Europe/Madrid",
    "Australia/Lord_Howe",
    "America/Havana",
  );
  const someSchedule = fc.constantFrom(
    ...SCHEDULES.map(([text]) => text),
    "0 12 29 2 *",
    "0 4 1 * *",
  );
  const someRule = fc.record({
    schedule: someSchedule,
    timeZone: everywhere,
    dst: fc.constantFrom(...RULES),
  });
  const instant = fc.integer({
    min: utc("2024-01-01T00:00") / MINUTE,
    max: utc("2028-12-31T00:00") / MINUTE,
  });

  test("does not depend on where the range is cut", () => {
    const cut = fc.integer({ min: 0, max: 8 * 1440 });
    fc.assert(
      fc.property(someRule, instant, cut, (rule: SlotRule, minute, at) => {
        const [from, to] = [minute * MINUTE, minute * MINUTE + 8 * DAY];
        const middle = from + at * MINUTE;
        const whole = planSlots(rule, from, to, ALL);
        const parts = [...planSlots(rule, from, middle, ALL), ...planSlots(rule, middle, to, ALL)];
        expect(parts).toEqual(whole);
        expect(planSlots(rule, from, to, 3)).toEqual(whole.slice(0, 3));
        expect(nextSlot(rule, from)?.at).toBe(whole[0]?.at ?? nextSlot(rule, to)?.at);
      }),
      { numRuns: 60 },
    );
  });

  test("finds the leap day, and skips the years without one", () => {
    const rule = { schedule: "0 12 29 2 *", timeZone: "Europe/Madrid", dst: RULES[0] };
    const found = upcomingSlots(rule, utc("2026-11-24T00:00"), 2).map(({ at }) =>
      new Date(at).toISOString(),
    );
    expect(found).toEqual(["2028-02-29T11:00:00.000Z", "2032-02-29T11:00:00.000Z"]);
  });

  test("takes the start of its range as done and its end as due", () => {
    const rule = { schedule: "0 2 * * *", timeZone: "UTC", dst: RULES[0] };
    const slot = utc("2026-11-24T02:00");
    expect(planSlots(rule, slot, slot + DAY, ALL)).toEqual([{ at: slot + DAY }]);
  });
});
