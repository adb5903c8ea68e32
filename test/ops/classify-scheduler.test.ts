import { describe, expect, test } from "vitest";
import { classifyScheduler } from "../../src/lib/ops/classify-scheduler.ts";

const at = (text: string): number => Date.parse(`${text}Z`);
/** Long before everything below. */
const INSTALLED = at("2026-01-01T00:00");

interface Case {
  readonly what: string;
  readonly schedule: string;
  readonly last: string | null;
  readonly now: string;
  readonly status: string;
}

const DAILY: readonly Omit<Case, "schedule">[] = [
  {
    what: "wrote down its slot",
    last: "2026-11-24T02:00",
    now: "2026-11-24T12:00",
    status: "available",
  },
  {
    what: "has not run yet, but has ten minutes",
    last: "2026-11-23T02:00",
    now: "2026-11-24T02:09:59",
    status: "available",
  },
  {
    what: "has not run, and its ten minutes are over",
    last: "2026-11-23T02:00",
    now: "2026-11-24T02:10:01",
    status: "degraded",
  },
  {
    what: "missed one slot",
    last: "2026-11-23T02:00",
    now: "2026-11-24T12:00",
    status: "degraded",
  },
  {
    what: "missed one slot, the second is not over",
    last: "2026-11-23T02:00",
    now: "2026-11-25T02:09",
    status: "degraded",
  },
  {
    what: "missed two slots",
    last: "2026-11-23T02:00",
    now: "2026-11-25T02:11",
    status: "unavailable",
  },
  {
    what: "stopped weeks ago",
    last: "2026-11-01T02:00",
    now: "2026-11-24T12:00",
    status: "unavailable",
  },
  {
    what: "never ran since it was installed long ago",
    last: null,
    now: "2026-11-24T12:00",
    status: "unavailable",
  },
];

const cases: readonly Case[] = [
  ...DAILY.map((row) => ({ ...row, schedule: "0 2 * * *" })),
  ...DAILY.map((row) => ({ ...row, schedule: "0 0 2 * * *" })),
  {
    what: "runs often and is on time",
    schedule: "*/10 * * * *",
    last: "2026-11-24T11:50",
    now: "2026-11-24T12:05",
    status: "available",
  },
  {
    what: "runs often and missed one slot",
    schedule: "*/10 * * * *",
    last: "2026-11-24T11:40",
    now: "2026-11-24T12:05",
    status: "degraded",
  },
  {
    what: "runs often and missed two slots",
    schedule: "*/10 * * * *",
    last: "2026-11-24T11:30",
    now: "2026-11-24T12:05",
    status: "unavailable",
  },
  {
    what: "runs each 30 s and did so within the ten minutes",
    schedule: "*/30 * * * * *",
    last: "2026-11-24T11:55",
    now: "2026-11-24T12:05",
    status: "available",
  },
  {
    what: "runs once a year and did",
    schedule: "0 0 1 1 *",
    last: "2026-01-01T00:00",
    now: "2026-11-24T12:00",
    status: "available",
  },
  {
    what: "runs on 29 February only",
    schedule: "0 0 29 2 *",
    last: "2024-02-29T00:00",
    now: "2026-11-24T12:00",
    status: "available",
  },
  {
    what: "has a weekday slot on Friday, seen on Monday",
    schedule: "0 2 * * 1-5",
    last: "2026-11-20T02:00",
    now: "2026-11-23T01:00",
    status: "available",
  },
];

const watch = (schedule: string, isCritical = true) => ({ id: "a", schedule, isCritical });

describe("a critical job that", () => {
  test.each(cases)("$what is $status ($schedule, at $now)", ({ schedule, last, now, status }) => {
    const writtenUntil: Record<string, number> = last === null ? {} : { a: at(last) };
    const facts = { installedAt: INSTALLED, writtenUntil };
    expect(classifyScheduler([watch(schedule)], facts, at(now))).toBe(status);
  });
});

describe("several jobs", () => {
  const now = at("2026-11-24T12:00");
  const [written, gone] = [now - 60_000, at("2026-11-20T02:00")];
  const status = (a: number, b: number, isCritical: boolean) =>
    classifyScheduler(
      [watch("0 2 * * *", isCritical), { ...watch("* * * * *", isCritical), id: "b" }],
      { installedAt: INSTALLED, writtenUntil: { a, b } },
      now,
    );

  test("are as bad as the worst critical one", () => {
    expect(status(written, written, true)).toBe("available");
    expect(status(gone, written, true)).toBe("unavailable");
    expect(status(written, gone, true)).toBe("unavailable");
  });

  test("that are not critical only degrade, unless all are gone", () => {
    expect(status(gone, written, false)).toBe("degraded");
    expect(status(gone, gone, false)).toBe("unavailable");
  });
});

describe("a fresh installation", () => {
  const installedAt = at("2026-11-24T12:00");
  const status = (now: string, schedule = "0 2 * * *") =>
    classifyScheduler([watch(schedule)], { installedAt, writtenUntil: {} }, at(now));

  test("is available until its first slot", () => {
    expect(status("2026-11-24T12:00")).toBe("available");
    expect(status("2026-11-25T02:09")).toBe("available");
  });

  test("is degraded when its first slot passes without a run, unavailable after the second", () => {
    expect(status("2026-11-25T02:11")).toBe("degraded");
    expect(status("2026-11-26T02:11")).toBe("unavailable");
  });

  test("counts from its installation also when the schedule has slots before it", () => {
    expect(status("2026-11-24T12:05", "*/10 * * * *")).toBe("available");
  });
});
