import { Cron } from "croner";
import fc from "fast-check";
import { expect, test } from "vitest";
import { NcrontabError, parseNcrontab } from "../../src/lib/kernel/ncrontab.ts";

const next = (text: string, after: string) =>
  parseNcrontab(text).next(new Date(after)).toISOString();
const previous = (text: string, before: string) =>
  parseNcrontab(text).previous(new Date(before))?.toISOString();

test.each([
  ["0 2 * * *", "2026-03-01T02:00:00Z", "2026-03-02T02:00:00.000Z"],
  ["0 0 2 * * *", "2026-03-01T01:59:59.999Z", "2026-03-01T02:00:00.000Z"],
  ["*/5 * * * *", "2026-03-01T00:00:00Z", "2026-03-01T00:05:00.000Z"],
  ["*/20 * * * * *", "2026-03-01T00:00:19.500Z", "2026-03-01T00:00:20.000Z"],
  ["0 30 9 * * mon-fri", "2026-03-06T10:00:00Z", "2026-03-09T09:30:00.000Z"],
  ["0 30 9 * * Monday", "2026-03-02T10:00:00Z", "2026-03-09T09:30:00.000Z"],
  ["0 0 0 1 JAN,july *", "2026-03-01T00:00:00Z", "2026-07-01T00:00:00.000Z"],
  ["0 0 22-2/10 * * *", "2026-03-01T02:00:00Z", "2026-03-01T12:00:00.000Z"],
  ["0 3/20 * * * *", "2026-03-01T00:03:00Z", "2026-03-01T00:23:00.000Z"],
  ["0 0 0 31 * *", "2026-04-01T00:00:00Z", "2026-05-31T00:00:00.000Z"],
  ["59 59 23 31 12 *", "2026-12-31T23:59:59Z", "2027-12-31T23:59:59.000Z"],
])("%s after %s runs at %s", (text, after, expected) => {
  expect(next(text, after)).toBe(expected);
});

test("day of month and weekday must both match", () => {
  expect(next("0 0 0 13 * 5", "2026-04-01T00:00:00Z")).toBe("2026-11-13T00:00:00.000Z");
});

test("the occurrence at the given instant counts neither as next nor as previous", () => {
  expect(next("0 0 * * * *", "2026-03-01T10:00:00Z")).toBe("2026-03-01T11:00:00.000Z");
  expect(previous("0 0 * * * *", "2026-03-01T10:00:00Z")).toBe("2026-03-01T09:00:00.000Z");
  expect(previous("0 0 * * * *", "2026-03-01T10:00:00.001Z")).toBe("2026-03-01T10:00:00.000Z");
});

test("a leap day on one weekday is found across forty years, both ways", () => {
  const mondays = "0 0 0 29 2 1";
  expect(next(mondays, "2072-03-01T00:00:00Z")).toBe("2112-02-29T00:00:00.000Z");
  expect(previous(mondays, "2112-02-29T00:00:00Z")).toBe("2072-02-29T00:00:00.000Z");
});

test("instants before 1970 and around year 0 are ordinary", () => {
  expect(next("0 0 0 1 1 *", "1969-06-01T00:00:00Z")).toBe("1970-01-01T00:00:00.000Z");
  expect(previous("0 0 0 1 3 *", "0004-01-01T00:00:00Z")).toBe("0003-03-01T00:00:00.000Z");
  expect(next("0 0 0 1 3 *", "0001-01-01T00:00:00Z")).toBe("0001-03-01T00:00:00.000Z");
});

test("the edges of time end a search instead of looping", () => {
  const { next: nextOf, previous: previousOf } = parseNcrontab("0 0 0 29 2 *");
  expect(() => nextOf(new Date(8.64e15))).toThrow(RangeError);
  expect(previousOf(new Date(-8.64e15))).toBeUndefined();
  expect(() => nextOf(new Date(Number.NaN))).toThrow(RangeError);
  expect(() => previousOf(new Date(Number.NaN))).toThrow(RangeError);
});

test.each([
  ["*/10 * * * * *", true],
  ["0,30 * * * * *", true],
  ["0 * * * * *", false],
  ["* * * * *", false],
  ["*/10 0 * * * *", false],
  ["* * * * * 1", false],
])("%s runs more than once in every minute: %s", (text, expected) => {
  expect(parseNcrontab(text).isSubMinute).toBe(expected);
});

test("the text is kept without the space around it", () => {
  expect(parseNcrontab("  0  2 * *\t* ").text).toBe("0  2 * *\t*");
});

test.each([
  ["", 0, "it is empty"],
  ["   ", 0, "it is empty"],
  ["* * * *", 0, "it has 4 field(s); write five or six"],
  ["0 0 0 1 1 * 2026", 0, "it has 7 field(s); write five or six"],
  ["@hourly", 0, '"@hourly" is not NCRONTAB; write five or six fields'],
  [
    "00:05:00",
    0,
    'the time span "00:05:00" works on App Service plans only; write five or six fields',
  ],
  [
    "1.00:00",
    0,
    'the time span "1.00:00" works on App Service plans only; write five or six fields',
  ],
  ["60 * * * *", 1, "minute 60 is not between 0 and 59"],
  ["0 60 * * * *", 2, "minute 60 is not between 0 and 59"],
  ["60 * * * * *", 1, "second 60 is not between 0 and 59"],
  ["0 24 * * *", 2, "hour 24 is not between 0 and 23"],
  ["0 0 0 * *", 3, "day of month 0 is not between 1 and 31"],
  ["0 0 * 13 *", 4, "month 13 is not between 1 and 12"],
  ["0 0 * * 7", 5, "weekday 7 is not between 0 and 6; Sunday is 0"],
  ["0 0 * * 1-7", 5, "weekday 7 is not between 0 and 6; Sunday is 0"],
  ["0 0 ? * *", 3, 'day of month "?" is not NCRONTAB'],
  ["0 0 L * *", 3, 'day of month "L" is not NCRONTAB'],
  ["0 0 * * 5#3", 5, 'weekday "5#3" is not NCRONTAB'],
  ["0 0 * * fr", 5, 'weekday "fr" is not a value'],
  ["0 0 * * freitag", 5, 'weekday "freitag" is not a value'],
  ["0 monday * * *", 2, 'hour "monday" is not a value'],
  ["0,,5 * * * *", 1, "minute has an empty part"],
  ["0 1- * * *", 2, "hour has an empty part"],
  ["0 -1 * * *", 2, "hour has an empty part"],
  ["0 1-2-3 * * *", 2, 'hour "1-2-3" is not a range'],
  ["*/0 * * * *", 1, 'minute "*/0" has a step that is not a whole number above 0'],
  ["*/-5 * * * *", 1, 'minute "*/-5" has a step that is not a whole number above 0'],
  ["*/2/3 * * * *", 1, 'minute "*/2/3" has more than one step'],
  ["1.5 * * * *", 1, 'minute "1.5" is not a value'],
  [
    "0 0 30 2 *",
    0,
    "it never occurs: no month of field 4 (month) has a day of field 3 (day of month)",
  ],
  [
    "0 0 0 31 4,6,9,11 *",
    0,
    "it never occurs: no month of field 5 (month) has a day of field 4 (day of month)",
  ],
])("%j is refused at field %i", (text, position, reason) => {
  let thrown: unknown;
  try {
    parseNcrontab(text);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(NcrontabError);
  expect(thrown).toMatchObject({ position, reason });
});

test("any text is a schedule or a NcrontabError, never anything else", () => {
  const words = fc.constantFrom(
    "*",
    "/",
    "-",
    ",",
    " ",
    "0",
    "5",
    "61",
    "jan",
    "mon",
    "?",
    "L",
    ":",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(words).map((parts) => parts.join("")),
      ),
      (text) => {
        try {
          const at = parseNcrontab(text).next(new Date(0));
          expect(at.getTime()).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(NcrontabError);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

test("a text of any length is judged at once", () => {
  expect(() => parseNcrontab(`${"0,".repeat(1000)}0 * * * *`)).toThrow("more than 500 characters");
});

/** One part of a field as we read it, and the same part in the smaller language that croner reads. */
type Part = readonly [ours: string, croners: string];

function parts(min: number, max: number, names: readonly string[] = []): fc.Arbitrary<Part> {
  const value = fc.integer({ min, max });
  const step = fc.integer({ min: 1, max: max + 2 });
  const written = (n: number, byName: boolean) => (byName ? (names[n - min] ?? n) : n);
  return fc.oneof(
    fc.tuple(value, fc.boolean()).map(([n, name]): Part => [`${written(n, name)}`, `${n}`]),
    fc.tuple(value, value, fc.boolean()).map(([a, b, name]): Part => {
      return [`${written(a, name)}-${written(b, name)}`, `${Math.min(a, b)}-${Math.max(a, b)}`];
    }),
    fc.tuple(value, value, step).map(([a, b, n]): Part => {
      return [`${a}-${b}/${n}`, oneByOne(Math.min(a, b), Math.max(a, b), n)];
    }),
    fc.tuple(value, step).map(([a, n]): Part => [`${a}/${n}`, oneByOne(a, max, n)]),
    step.map((n): Part => [`*/${n}`, oneByOne(min, max, n)]),
  );
}

function oneByOne(from: number, to: number, step: number): string {
  const values: number[] = [];
  for (let value = from; value <= to; value += step) values.push(value);
  return values.join(",");
}

function fieldOf(min: number, max: number, names?: readonly string[]): fc.Arbitrary<Part> {
  const list = fc.array(parts(min, max, names), { minLength: 1, maxLength: 3 });
  const joined = list.map((some): Part => {
    return [some.map(([ours]) => ours).join(","), some.map(([, croners]) => croners).join(",")];
  });
  return fc.oneof(fc.constant<Part>(["*", "*"]), joined);
}

const MONTHS = [
  "jan",
  "FEB",
  "march",
  "Apr",
  "may",
  "june",
  "jul",
  "aug",
  "sep",
  "oct",
  "nov",
  "dec",
];
const WEEKDAYS = ["sun", "MON", "tuesday", "Wed", "thu", "fri", "Sat"];
const expressions = fc
  .tuple(
    fieldOf(0, 59),
    fieldOf(0, 59),
    fieldOf(0, 23),
    fieldOf(1, 31),
    fieldOf(1, 12, MONTHS),
    fieldOf(0, 6, WEEKDAYS),
  )
  .map((fields) => ({
    ours: fields.map(([ours]) => ours).join(" "),
    croners: fields.map(([, croners]) => croners).join(" "),
  }));

/** From 1990 on, and early enough that croner's own search ends. */
const instants = fc.integer({ min: 631_152_000_000, max: 2_240_524_800_000 });

test("next and previous agree with another cron library on thousands of schedules and instants", () => {
  let compared = 0;
  fc.assert(
    fc.property(expressions, instants, ({ ours, croners }, at) => {
      const schedule = scheduleOrNever(ours);
      if (schedule === undefined) return;
      const oracle = new Cron(croners, { domAndDow: true, timezone: "UTC", mode: "6-part" });
      const instant = new Date(at);
      expect(schedule.next(instant)).toEqual(oracle.nextRun(instant));
      expect(schedule.previous(instant)).toEqual(oracle.previousRuns(1, instant)[0]);
      compared++;
    }),
    { numRuns: 4000 },
  );
  expect(compared).toBeGreaterThan(3000);
});

function scheduleOrNever(text: string) {
  try {
    return parseNcrontab(text);
  } catch (error) {
    expect(error).toMatchObject({ position: 0, reason: expect.stringContaining("never occurs") });
    return undefined;
  }
}

test("previous of next is the given occurrence again", () => {
  fc.assert(
    fc.property(expressions, instants, ({ ours }, at) => {
      const schedule = scheduleOrNever(ours);
      if (schedule === undefined) return;
      const first = schedule.next(new Date(at));
      const second = schedule.next(first);
      expect(schedule.previous(second)).toEqual(first);
      expect(schedule.previous(new Date(second.getTime() - 1))).toEqual(first);
    }),
    { numRuns: 1000 },
  );
});

test("the rarest schedule is found fast enough to judge settings with it", () => {
  const { next: nextOf } = parseNcrontab("0 0 0 29 2 1");
  const startedAt = performance.now();
  for (let i = 0; i < 100; i++) nextOf(new Date("2097-01-01T00:00:00Z"));
  expect(performance.now() - startedAt).toBeLessThan(2000);
});
