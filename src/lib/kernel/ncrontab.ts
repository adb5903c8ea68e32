const SECOND_MS = 1000;
const DAY_S = 86_400;
const DAY_MS = DAY_S * SECOND_MS;
const HOURS = 24;

/** No schedule needs more characters; a setting that is longer holds something else. */
const TEXT_MAX = 500;

/**
 * Two occurrences are at most 40 years apart: 29 February on one weekday, across a century without a leap day. One
 * year more, so that the bound is never what ends a search.
 */
const SEARCH_DAYS = 41 * 366;

/** Why a text is not a schedule. `reason` names the field and stands alone; `position` says where. */
export class NcrontabError extends Error {
  override readonly name = "NcrontabError";
  /** 1 = the first field as it was written, of five or six; 0 = the whole expression. */
  readonly position: number;
  readonly reason: string;

  constructor(position: number, reason: string) {
    super(
      position === 0 ? `not a schedule: ${reason}` : `not a schedule: field ${position}: ${reason}`,
    );
    this.position = position;
    this.reason = reason;
  }
}

/** Occurrences are whole seconds in UTC. */
export interface Schedule {
  readonly text: string;
  /** Runs more than once in every minute of the year. The host keeps no status of such a timer. */
  readonly isSubMinute: boolean;
  /** Every hour of the day matches: it repeats within the hour, like an interval. */
  readonly isEveryHour: boolean;
  /**
   * The first occurrence later than `after`.
   *
   * @throws RangeError when `after` is not a valid date, or the occurrence lies after the last date there is.
   */
  next(after: Date): Date;
  /**
   * The latest occurrence earlier than `before`; undefined when there was none in the 40 years before it.
   *
   * @throws RangeError when `before` is not a valid date.
   */
  previous(before: Date): Date | undefined;
}

/**
 * Reads an Azure Functions schedule (NCRONTAB): `[second] minute hour day month weekday`; five fields mean second 0.
 * Unlike in other crons, day **and** weekday must both match. A field is a list of `*`, values, ranges (`22-2` is read
 * as `2-22`) and steps (`10-40/10`, `3/15` = from 3 on); months and weekdays also by English name. Not known:
 * `?`, `L`, `W`, `#`, `@hourly`, weekday 7, and time spans, which run on App Service plans only.
 *
 * Always in UTC: that is the zone of Azure Functions, and `WEBSITE_TIME_ZONE` does not work reliably on Linux.
 *
 * @throws NcrontabError also when the schedule never occurs, such as on 30 February.
 */
export function parseNcrontab(text: string): Schedule {
  const trimmed = text.trim();
  const words = split(trimmed);
  const when = parseFields(words);
  const isEveryMinute = words.slice(-5).every((word) => word === "*");
  return {
    text: trimmed,
    isSubMinute: isEveryMinute && when.seconds.values.length > 1,
    isEveryHour: when.hours.values.length === HOURS,
    next: (after) => next(when, after),
    previous: (before) => previous(when, before),
  };
}

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly names: readonly string[];
}

const MONTHS =
  "january february march april may june july august september october november december";
const WEEKDAYS = "sunday monday tuesday wednesday thursday friday saturday";

const field = (name: string, min: number, max: number, names = ""): Field => ({
  name,
  min,
  max,
  names: names.split(" ").filter((word) => word !== ""),
});

const SECOND = field("second", 0, 59);
const MINUTE = field("minute", 0, 59);
const HOUR = field("hour", 0, 23);
const DAY = field("day of month", 1, 31);
const MONTH = field("month", 1, 12, MONTHS);
const WEEKDAY = field("weekday", 0, 6, WEEKDAYS);

/** The values of one field, ascending and at least one. */
interface Values {
  readonly values: readonly number[];
  has(value: number): boolean;
}

interface When {
  readonly seconds: Values;
  readonly minutes: Values;
  readonly hours: Values;
  readonly days: Values;
  readonly months: Values;
  readonly weekdays: Values;
}

function split(text: string): string[] {
  if (text === "") throw new NcrontabError(0, "it is empty");
  if (text.length > TEXT_MAX) {
    throw new NcrontabError(0, `it has more than ${TEXT_MAX} characters`);
  }
  if (text.startsWith("@")) {
    throw new NcrontabError(0, `"${text}" is not NCRONTAB; write five or six fields`);
  }
  if (/^[\d.]+(:\d+)+$/.test(text)) {
    throw new NcrontabError(
      0,
      `the time span "${text}" works on App Service plans only; write five or six fields`,
    );
  }
  const words = text.split(/\s+/);
  if (words.length !== 5 && words.length !== 6) {
    throw new NcrontabError(0, `it has ${words.length} field(s); write five or six`);
  }
  return words;
}

function parseFields(words: readonly string[]): When {
  const offset = 6 - words.length;
  const read = (field: Field, index: number) => {
    const position = index - offset + 1;
    return position < 1 ? toValues([0]) : parseField(words[position - 1] ?? "", field, position);
  };
  const when = {
    seconds: read(SECOND, 0),
    minutes: read(MINUTE, 1),
    hours: read(HOUR, 2),
    days: read(DAY, 3),
    months: read(MONTH, 4),
    weekdays: read(WEEKDAY, 5),
  };
  refuseImpossibleDay(when, offset);
  return when;
}

function parseField(text: string, field: Field, position: number): Values {
  const values = new Set<number>();
  for (const part of text.split(",")) {
    for (const value of parsePart(part, field, position)) values.add(value);
  }
  return toValues([...values].sort((a, b) => a - b));
}

function toValues(values: readonly number[]): Values {
  const present = new Set(values);
  return { values, has: (value) => present.has(value) };
}

/** `*`, `a`, `a-b`, each with an optional step. */
function parsePart(part: string, field: Field, position: number): number[] {
  const refuse = (reason: string) => new NcrontabError(position, `${field.name} ${reason}`);
  const [range = "", stepText, ...rest] = part.split("/");
  if (rest.length > 0) throw refuse(`"${part}" has more than one step`);
  const step = stepText === undefined ? 1 : parseStep(stepText);
  if (step === undefined) throw refuse(`"${part}" has a step that is not a whole number above 0`);
  const [from, to] = bounds(range, stepText !== undefined, field, refuse);
  const values: number[] = [];
  for (let value = from; value <= to; value += step) values.push(value);
  return values;
}

function parseStep(text: string): number | undefined {
  const step = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  return step > 0 ? step : undefined;
}

type Refuse = (reason: string) => NcrontabError;

function bounds(range: string, hasStep: boolean, field: Field, refuse: Refuse): [number, number] {
  if (range === "*") return [field.min, field.max];
  const [first = "", last, ...rest] = range.split("-");
  if (rest.length > 0) throw refuse(`"${range}" is not a range`);
  const from = parseValue(first, field, refuse);
  if (last === undefined) return [from, hasStep ? field.max : from];
  const to = parseValue(last, field, refuse);
  return from <= to ? [from, to] : [to, from];
}

function parseValue(text: string, { min, max, names }: Field, refuse: Refuse): number {
  if (text === "") throw refuse("has an empty part");
  if (/^\d{1,4}$/.test(text)) {
    const value = Number(text);
    if (value >= min && value <= max) return value;
    const hint = max === 6 && value === 7 ? "; Sunday is 0" : "";
    throw refuse(`${text} is not between ${min} and ${max}${hint}`);
  }
  const wanted = text.toLowerCase();
  const index = text.length < 3 ? -1 : names.findIndex((name) => name.startsWith(wanted));
  if (index >= 0) return index + min;
  throw refuse(/[?LW#]/i.test(text) ? `"${text}" is not NCRONTAB` : `"${text}" is not a value`);
}

/** Days that every month has at least once, with 29 for February. */
const MONTH_DAYS_MAX = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function refuseImpossibleDay({ days, months }: When, offset: number): void {
  const firstDay = days.values[0] ?? 0;
  if (months.values.some((month) => firstDay <= (MONTH_DAYS_MAX[month - 1] ?? 0))) return;
  const [dayPosition, monthPosition] = [4 - offset, 5 - offset];
  throw new NcrontabError(
    0,
    `it never occurs: no month of field ${monthPosition} (month) has a day of field ${dayPosition} (day of month)`,
  );
}

/** Forwards or backwards: everything below searches both ways. */
type Direction = 1 | -1;

function next(when: When, after: Date): Date {
  const second = Math.floor(valid(after) / SECOND_MS) + 1;
  const found = seek(when, second, 1);
  const date = new Date((found ?? Number.NaN) * SECOND_MS);
  valid(date);
  return date;
}

function previous(when: When, before: Date): Date | undefined {
  const second = Math.ceil(valid(before) / SECOND_MS) - 1;
  const found = seek(when, second, -1);
  return found === undefined ? undefined : new Date(found * SECOND_MS);
}

function valid(date: Date): number {
  const time = date.getTime();
  if (Number.isNaN(time)) throw new RangeError("not a valid date");
  return time;
}

/** The nearest matching second, from `second` on (in seconds since 1970). */
function seek(when: When, second: number, direction: Direction): number | undefined {
  const day = Math.floor(second / DAY_S);
  if (isMatchingDay(when, new Date(day * DAY_MS))) {
    const time = seekTime(when, second - day * DAY_S, direction);
    if (time !== undefined) return day * DAY_S + time;
  }
  const otherDay = seekDay(when, day + direction, direction);
  const time = seekTime(when, direction > 0 ? 0 : DAY_S - 1, direction);
  return otherDay === undefined || time === undefined ? undefined : otherDay * DAY_S + time;
}

function isMatchingDay({ days, months, weekdays }: When, date: Date): boolean {
  return (
    months.has(date.getUTCMonth() + 1) &&
    days.has(date.getUTCDate()) &&
    weekdays.has(date.getUTCDay())
  );
}

/** Days since 1970. Leaves months out that do not match, so that a yearly schedule costs few steps. */
function seekDay(when: When, start: number, direction: Direction): number | undefined {
  let day = start;
  while (Math.abs(day - start) <= SEARCH_DAYS) {
    const date = new Date(day * DAY_MS);
    if (Number.isNaN(date.getTime())) return undefined;
    if (isMatchingDay(when, date)) return day;
    day = when.months.has(date.getUTCMonth() + 1) ? day + direction : edgeDay(date, direction);
  }
  return undefined;
}

/** The first day of the next month, or the last of the one before. */
function edgeDay(date: Date, direction: Direction): number {
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  const edge = new Date(0);
  return (
    edge.setUTCFullYear(year, direction > 0 ? month + 1 : month, direction > 0 ? 1 : 0) / DAY_MS
  );
}

/** The nearest matching second of a day, from `time` on (in seconds since midnight). */
function seekTime({ hours, minutes, seconds }: When, time: number, direction: Direction) {
  const hour = Math.floor(time / 3600);
  const minute = Math.floor(time / 60) % 60;
  const inMinute = nearest(seconds, time % 60, direction);
  const at = (h: number, m: number, s: number | undefined) => h * 3600 + m * 60 + (s ?? 0);
  if (hours.has(hour) && minutes.has(minute) && inMinute !== undefined) {
    return at(hour, minute, inMinute);
  }
  const inHour = nearest(minutes, minute + direction, direction);
  if (hours.has(hour) && inHour !== undefined) return at(hour, inHour, edge(seconds, direction));
  const inDay = nearest(hours, hour + direction, direction);
  if (inDay === undefined) return undefined;
  return at(inDay, edge(minutes, direction) ?? 0, edge(seconds, direction));
}

const nearest = ({ values }: Values, from: number, direction: Direction): number | undefined =>
  direction > 0 ? values.find((value) => value >= from) : values.findLast((value) => value <= from);

const edge = ({ values }: Values, direction: Direction): number | undefined =>
  values.at(direction > 0 ? 0 : -1);
