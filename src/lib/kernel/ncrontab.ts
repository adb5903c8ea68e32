/**
 * NCRONTAB as Azure Functions reads it, in UTC, as Azure does: six fields `second minute hour day month weekday`, or
 * five without seconds. Day of month AND day of week must both match. Pure.
 */
export interface Schedule {
  readonly text: string;
  /** More than one run a minute: the host keeps no status of such a timer. */
  readonly isSubMinute: boolean;
  /** The first occurrence after an instant. */
  next(after: Date): Date;
  /** The latest occurrence before an instant; undefined when there is none within 40 years. */
  previous(before: Date): Date | undefined;
}

export class NcrontabError extends Error {
  override readonly name = "NcrontabError";
  /** 1 for the first field as written; 0 = the expression as a whole. */
  readonly position: number;
  readonly reason: string;

  constructor(position: number, reason: string) {
    super(position === 0 ? reason : `field ${position}: ${reason}`);
    this.position = position;
    this.reason = reason;
  }
}

interface Field {
  readonly name: string;
  readonly low: number;
  readonly high: number;
  readonly names?: readonly string[];
}

const MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split(" ");
const WEEKDAYS = "sun mon tue wed thu fri sat".split(" ");
const FIELDS: readonly Field[] = [
  { name: "second", low: 0, high: 59 },
  { name: "minute", low: 0, high: 59 },
  { name: "hour", low: 0, high: 23 },
  { name: "day of month", low: 1, high: 31 },
  { name: "month", low: 1, high: 12, names: MONTHS },
  { name: "day of week", low: 0, high: 6, names: WEEKDAYS },
];
const YEARS_SEARCHED = 40;
const DAY_MS = 86_400_000;
const NAME_LETTERS_MIN = 3;

/** Throws NcrontabError, which names the field and the reason. */
export function parseNcrontab(expression: string): Schedule {
  const text = expression.trim();
  const parts = text.split(/\s+/);
  if (/^[\d.]*\d+:\d+/.test(text)) {
    throw new NcrontabError(0, "an interval works on App Service plans only; write six fields");
  }
  if (parts.length !== 5 && parts.length !== 6) {
    throw new NcrontabError(0, "must have five fields, or six with seconds first");
  }
  const isShort = parts.length === 5;
  const fields = isShort ? ["0", ...parts] : parts;
  const sets = FIELDS.map((field, i) => parseField(fields[i] ?? "", field, isShort ? i : i + 1));
  const schedule = createSchedule(text, sets);
  refuseNever(schedule);
  return schedule;
}

/** Bit sets would be smaller; sorted lists are what both searches need. */
type Values = readonly number[];

function parseField(text: string, field: Field, position: number): Values {
  const values = new Set<number>();
  for (const part of text.split(",")) {
    for (const value of parsePart(part, field, position)) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

function parsePart(part: string, field: Field, position: number): Values {
  const [range = "", stepText, ...rest] = part.split("/");
  if (rest.length > 0) throw new NcrontabError(position, `${field.name} has two steps`);
  const step = stepText === undefined ? 1 : parseStep(stepText, field, position);
  const [from, to] = parseRange(range, stepText !== undefined, field, position);
  const [low, high] = from <= to ? [from, to] : [to, from];
  return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => low + i * step);
}

function parseStep(text: string, field: Field, position: number): number {
  const step = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (step < 1)
    throw new NcrontabError(position, `${field.name} has a step that is no number above 0`);
  return step;
}

function parseRange(
  range: string,
  hasStep: boolean,
  field: Field,
  position: number,
): readonly [number, number] {
  if (range === "*") return [field.low, field.high];
  const [first = "", second, ...rest] = range.split("-");
  if (rest.length > 0)
    throw new NcrontabError(position, `${field.name} has a range with three ends`);
  const from = parseValue(first, field, position);
  if (second !== undefined) return [from, parseValue(second, field, position)];
  return [from, hasStep ? field.high : from];
}

function parseValue(text: string, field: Field, position: number): number {
  const named =
    text.length >= NAME_LETTERS_MIN
      ? (field.names?.findIndex((name) => text.toLowerCase().startsWith(name)) ?? -1)
      : -1;
  const value = named >= 0 ? named + field.low : /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= field.low && value <= field.high) return value;
  throw new NcrontabError(
    position,
    `${field.name} must lie between ${field.low} and ${field.high}`,
  );
}

function createSchedule(text: string, sets: readonly Values[]): Schedule {
  const [seconds = [], minutes = [], hours = []] = sets;
  const isEveryMinute = sets.slice(1).every((values, i) => {
    const field = FIELDS[i + 1];
    return field !== undefined && values.length === field.high - field.low + 1;
  });
  const time = { seconds, minutes, hours };
  const search = daySearch(sets);
  return {
    text,
    isSubMinute: isEveryMinute && seconds.length > 1,
    next: (after) => {
      const found = search.next(after, time);
      if (found === undefined) throw new NcrontabError(0, "never occurs");
      return found;
    },
    previous: (before) => search.previous(before, time),
  };
}

interface TimeOfDay {
  readonly seconds: Values;
  readonly minutes: Values;
  readonly hours: Values;
}

/** Steps over days, then picks the time of day: at most 40 years of days, never a tight loop over seconds. */
function daySearch([, , , dates = [], months = [], weekdays = []]: readonly Values[]) {
  const isDay = (ms: number): boolean => {
    const day = new Date(ms);
    return (
      months.includes(day.getUTCMonth() + 1) &&
      dates.includes(day.getUTCDate()) &&
      weekdays.includes(day.getUTCDay())
    );
  };
  const limit = YEARS_SEARCHED * 366;
  return {
    next(after: Date, time: TimeOfDay): Date | undefined {
      const from = Math.floor(after.getTime() / 1000) * 1000 + 1000;
      const firstDay = Math.floor(from / DAY_MS) * DAY_MS;
      for (let i = 0; i < limit; i += 1) {
        const day = firstDay + i * DAY_MS;
        const second = isDay(day)
          ? firstSecond(time, i === 0 ? (from - day) / 1000 : 0)
          : undefined;
        if (second !== undefined) return new Date(day + second * 1000);
      }
      return undefined;
    },
    previous(before: Date, time: TimeOfDay): Date | undefined {
      const to = Math.ceil(before.getTime() / 1000) * 1000 - 1000;
      const lastDay = Math.floor(to / DAY_MS) * DAY_MS;
      for (let i = 0; i < limit; i += 1) {
        const day = lastDay - i * DAY_MS;
        const until = i === 0 ? (to - day) / 1000 : DAY_MS / 1000;
        const second = isDay(day) ? lastSecond(time, until) : undefined;
        if (second !== undefined) return new Date(day + second * 1000);
      }
      return undefined;
    },
  };
}

/** The first matching second of a day at or after `from`. */
function firstSecond({ hours, minutes, seconds }: TimeOfDay, from: number): number | undefined {
  for (const hour of hours) {
    if (hour * 3600 + 3599 < from) continue;
    for (const minute of minutes) {
      const start = hour * 3600 + minute * 60;
      const second = seconds.find((value) => start + value >= from);
      if (second !== undefined) return start + second;
    }
  }
  return undefined;
}

/** The last matching second of a day at or before `until`. */
function lastSecond({ hours, minutes, seconds }: TimeOfDay, until: number): number | undefined {
  for (const hour of hours.toReversed()) {
    if (hour * 3600 > until) continue;
    for (const minute of minutes.toReversed()) {
      const start = hour * 3600 + minute * 60;
      const second = seconds.findLast((value) => start + value <= until);
      if (second !== undefined) return start + second;
    }
  }
  return undefined;
}

const ANY_INSTANT = new Date(Date.UTC(2024, 0, 1));

function refuseNever(schedule: Schedule): void {
  try {
    schedule.next(ANY_INSTANT);
  } catch {
    throw new NcrontabError(
      0,
      "never occurs: day of month, month and day of week exclude each other",
    );
  }
}
