import { Temporal } from "temporal-polyfill";
import { parseNcrontab, type Schedule } from "../kernel/ncrontab.ts";
import type { DstRule } from "./job.ts";

const DAY_MS = 86_400_000;
/** The largest clock change there was: a whole day, where a zone changed sides of the date line; and some more. */
const CHANGE_MS_MAX = 26 * 3_600_000;
/** 41 years: a schedule has no longer pause. */
const SEARCH_DAYS_MAX = 41 * 366;

/** When a job is due. Instants are milliseconds since 1970. */
export interface SlotRule {
  readonly schedule: string;
  /** IANA name. */
  readonly timeZone: string;
  readonly dst: DstRule;
}

export interface PlannedSlot {
  readonly at: number;
  /** Its local time occurs twice that day, or not at all and was moved behind the gap. */
  readonly clockChange?: "repeated" | "shifted";
}

/** Slots later than `after` and not later than `until`, oldest first, at most `max`. */
export function planSlots(
  rule: SlotRule,
  after: number,
  until: number,
  max: number,
): PlannedSlot[] {
  const schedule = parseNcrontab(rule.schedule);
  const slots: PlannedSlot[] = [];
  let from = after;
  while (from < until && slots.length < max) {
    const to = Math.min(until, from + DAY_MS);
    slots.push(...slotsOfPart(rule, schedule, from, to, max - slots.length));
    from = slots.length < max ? skipPause(rule, schedule, to) : to;
  }
  return slots;
}

/** The first slot later than `after`; undefined when there is none in 40 years. */
export function nextSlot(rule: SlotRule, after: number): PlannedSlot | undefined {
  return planSlots(rule, after, after + SEARCH_DAYS_MAX * DAY_MS, 1)[0];
}

/** The next `count` slots, for people who want to see what a rule means. */
export function upcomingSlots(rule: SlotRule, after: number, count: number): PlannedSlot[] {
  return planSlots(rule, after, after + SEARCH_DAYS_MAX * DAY_MS, count);
}

/** @throws RangeError when there is no such zone. */
export function assertTimeZone(timeZone: string): void {
  offsetAt(timeZone, 0);
}

/** Where the search may go on: days without any local occurrence are not looked at one by one. */
function skipPause({ timeZone }: SlotRule, schedule: Schedule, at: number): number {
  const wall = at + offsetAt(timeZone, at);
  const next = schedule.next(new Date(wall - CHANGE_MS_MAX)).getTime();
  return Math.max(at, at + (next - wall) - CHANGE_MS_MAX);
}

function slotsOfPart(
  rule: SlotRule,
  schedule: Schedule,
  after: number,
  until: number,
  max: number,
): PlannedSlot[] {
  const offset = steadyOffset(rule.timeZone, after, until);
  if (offset !== undefined) {
    const walls = wallTimes(schedule, after + offset, until + offset, max);
    return walls.map((wall) => ({ at: wall - offset }));
  }
  const near = [after, until].map((at) => at + offsetAt(rule.timeZone, at));
  const [low = 0, high = 0] = [
    Math.min(...near) - CHANGE_MS_MAX,
    Math.max(...near) + CHANGE_MS_MAX,
  ];
  const byInstant = new Map<number, PlannedSlot>();
  for (const wall of wallTimes(schedule, low, high, Number.POSITIVE_INFINITY)) {
    for (const slot of instantsOf(rule, schedule, wall)) {
      const isInside = slot.at > after && slot.at <= until;
      // A time that exists by itself says more than one that was moved onto it.
      const known = byInstant.get(slot.at);
      if (isInside && (known === undefined || known.clockChange === "shifted")) {
        byInstant.set(slot.at, slot);
      }
    }
  }
  return [...byInstant.values()].sort((a, b) => a.at - b.at).slice(0, max);
}

/** Local times are written as if they were UTC: the schedule only knows fields. */
function wallTimes(schedule: Schedule, after: number, until: number, max: number): number[] {
  const walls: number[] = [];
  let wall = schedule.next(new Date(after)).getTime();
  while (wall <= until && walls.length < max) {
    walls.push(wall);
    wall = schedule.next(new Date(wall)).getTime();
  }
  return walls;
}

/** The instants of one local time under the rule: none, one or two. */
function instantsOf(rule: SlotRule, schedule: Schedule, wall: number): PlannedSlot[] {
  const local = Temporal.Instant.fromEpochMilliseconds(wall)
    .toZonedDateTimeISO("UTC")
    .toPlainDateTime();
  const at = (disambiguation: "earlier" | "later") =>
    local.toZonedDateTime(rule.timeZone, { disambiguation });
  const [first, last] = [at("earlier"), at("later")];
  if (first.epochMilliseconds === last.epochMilliseconds) return [{ at: first.epochMilliseconds }];
  if (!last.toPlainDateTime().equals(local)) {
    return rule.dst.gap === "skip" && !schedule.isEveryHour
      ? []
      : [{ at: last.epochMilliseconds, clockChange: "shifted" }];
  }
  const both = [first, last].map(
    (it): PlannedSlot => ({ at: it.epochMilliseconds, clockChange: "repeated" }),
  );
  // What repeats within the hour is an interval: an hour that occurs twice must not pause it.
  const wanted = schedule.isEveryHour ? "both" : rule.dst.overlap;
  if (wanted === "both") return both;
  return wanted === "first" ? both.slice(0, 1) : both.slice(1);
}

/** Milliseconds that local time is ahead of UTC, when that does not change anywhere near; otherwise undefined. */
function steadyOffset(timeZone: string, after: number, until: number): number | undefined {
  if (timeZone === "UTC") return 0;
  const [from, to] = [after - CHANGE_MS_MAX, until + CHANGE_MS_MAX];
  const start = zoned(timeZone, from);
  const change = start.getTimeZoneTransition("next");
  const isSteady = change === null || change.epochMilliseconds > to;
  return isSteady ? start.offsetNanoseconds / 1e6 : undefined;
}

const zoned = (timeZone: string, at: number) =>
  Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(timeZone);

const offsetAt = (timeZone: string, at: number): number =>
  timeZone === "UTC" ? 0 : zoned(timeZone, at).offsetNanoseconds / 1e6;
