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
  const segments = segmentsOf(rule.timeZone, after, until);
  const [only] = segments;
  if (only !== undefined && segments.length === 1) {
    const walls = wallTimes(schedule, after + only.offset, until + only.offset, max);
    return walls.map((wall) => ({ at: wall - only.offset }));
  }
  const [low, high] = [after - CHANGE_MS_MAX, until + CHANGE_MS_MAX];
  const byInstant = new Map<number, PlannedSlot>();
  const offsets = segments.map(({ offset }) => offset);
  const [first, last] = [low + Math.min(...offsets), high + Math.max(...offsets)];
  for (const wall of wallTimes(schedule, first, last, Number.POSITIVE_INFINITY)) {
    for (const slot of instantsOf(rule, schedule, segments, wall)) {
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
function instantsOf(
  { dst }: SlotRule,
  { isEveryHour }: Schedule,
  segments: readonly Segment[],
  wall: number,
): PlannedSlot[] {
  const instants = segments
    .filter(({ from, to, offset }) => wall - offset >= from && wall - offset < to)
    .map(({ offset }) => wall - offset);
  if (instants.length === 0) return behindGap(dst, isEveryHour, segments, wall);
  if (instants.length === 1) return instants.map((at) => ({ at }));
  const repeated = instants.map((at): PlannedSlot => ({ at, clockChange: "repeated" }));
  // What repeats within the hour is an interval: an hour that occurs twice must not pause it.
  if (isEveryHour || dst.overlap === "both") return repeated;
  return dst.overlap === "first" ? repeated.slice(0, 1) : repeated.slice(-1);
}

/** As far behind the gap as the local time lies in it: the clock of before goes on through it. */
function behindGap(
  dst: DstRule,
  isEveryHour: boolean,
  segments: readonly Segment[],
  wall: number,
): PlannedSlot[] {
  if (dst.gap === "skip" && !isEveryHour) return [];
  const before = segments.find(({ to, offset }, i) => {
    const after = segments[i + 1];
    return after !== undefined && wall >= to + offset && wall < after.from + after.offset;
  });
  return before === undefined ? [] : [{ at: wall - before.offset, clockChange: "shifted" }];
}

/** A time in which local time is `offset` milliseconds ahead of UTC. */
interface Segment {
  readonly from: number;
  /** Not included. */
  readonly to: number;
  readonly offset: number;
}

/** Segments of the range and of some time around it, oldest first. */
function segmentsOf(timeZone: string, after: number, until: number): Segment[] {
  const [from, to] = [after - CHANGE_MS_MAX, until + CHANGE_MS_MAX];
  const segments: Segment[] = [];
  let at = from;
  while (at <= to) {
    const segment = segmentAt(timeZone, at);
    segments.push(segment);
    at = segment.to;
  }
  return segments;
}

/** Asking for a clock change costs a search through years; a range asks again for the one it was just told. */
const known = new Map<string, readonly Segment[]>();
const KNOWN_SEGMENTS_MAX = 64;
const KNOWN_ZONES_MAX = 1000;
const ALWAYS: Segment = {
  from: Number.NEGATIVE_INFINITY,
  to: Number.POSITIVE_INFINITY,
  offset: 0,
};

function segmentAt(timeZone: string, at: number): Segment {
  if (timeZone === "UTC") return ALWAYS;
  const segments = known.get(timeZone) ?? [];
  const found = segments.find(({ from, to }) => from <= at && at < to);
  if (found !== undefined) return found;
  const start = Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(timeZone);
  const next = start.getTimeZoneTransition("next")?.epochMilliseconds ?? Number.POSITIVE_INFINITY;
  const segment = { from: at, to: next, offset: start.offsetNanoseconds / 1e6 };
  if (known.size > KNOWN_ZONES_MAX) known.clear();
  known.set(timeZone, [segment, ...segments].slice(0, KNOWN_SEGMENTS_MAX));
  return segment;
}

const offsetAt = (timeZone: string, at: number): number => segmentAt(timeZone, at).offset;
