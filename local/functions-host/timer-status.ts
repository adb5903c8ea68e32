import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Schedule } from "../../src/lib/kernel/ncrontab.ts";
import { isObject, readJsonFile } from "./json-file.ts";
import { dotNetDate, type ScheduleStatusText } from "./rpc-data.ts";

/** What is remembered of a timer between two starts of the host. */
export interface TimerStatus {
  /** Undefined = it never ran. */
  readonly last: Date | undefined;
  readonly next: Date;
  readonly lastUpdated: Date;
}

export interface TimerStatusStore {
  read(functionName: string): TimerStatus | undefined;
  write(functionName: string, status: TimerStatus): void;
}

/**
 * What a timer starts with. A planned run that was missed makes it past due; a schedule that changed never does,
 * because then the stored plan says nothing.
 */
export function resumeTimer(
  schedule: Schedule,
  stored: TimerStatus | undefined,
  now: Date,
): { readonly status: TimerStatus; readonly isPastDue: boolean } {
  if (stored === undefined) {
    const status = { last: undefined, next: schedule.next(now), lastUpdated: now };
    return { status, isPastDue: false };
  }
  const base = stored.last ?? stored.lastUpdated;
  const expected = schedule.next(base);
  if (expected.getTime() === stored.next.getTime()) {
    return { status: stored, isPastDue: now > stored.next };
  }
  const status =
    now > expected
      ? { last: undefined, next: schedule.next(now), lastUpdated: now }
      : { last: undefined, next: expected, lastUpdated: base };
  return { status, isPastDue: false };
}

/**
 * After a run. One that fired a few milliseconds early counts from its planned instant: otherwise the same occurrence
 * would come next again.
 */
export function afterRun(
  schedule: Schedule,
  status: TimerStatus,
  startedAt: Date,
  isScheduled: boolean,
): TimerStatus {
  const base = isScheduled && status.next > startedAt ? status.next : startedAt;
  return { last: base, next: schedule.next(base), lastUpdated: base };
}

const NEVER = "0001-01-01T00:00:00+00:00";

export const statusText = ({ last, next, lastUpdated }: TimerStatus): ScheduleStatusText => ({
  Last: last === undefined ? NEVER : dotNetDate(last),
  Next: dotNetDate(next),
  LastUpdated: dotNetDate(lastUpdated),
});

/** The name the host gives to the status of a function. */
const statusKey = (functionName: string): string => `Host.Functions.${functionName}`;

/** One JSON file for all timers, replaced as a whole; Azure has one blob for each. */
export function timerStatusFile(file: string): TimerStatusStore {
  const all = () => readJsonFile(file) ?? {};
  return {
    read: (functionName) => parseStatus(all()[statusKey(functionName)]),
    write: (functionName, status) => {
      const content = { ...all(), [statusKey(functionName)]: statusText(status) };
      mkdirSync(dirname(file), { recursive: true });
      const draft = `${file}.${process.pid}.tmp`;
      writeFileSync(draft, `${JSON.stringify(content, null, 2)}\n`);
      renameSync(draft, file);
    },
  };
}

function parseStatus(value: unknown): TimerStatus | undefined {
  if (!isObject(value)) return undefined;
  const next = parseDate(value["Next"]);
  const lastUpdated = parseDate(value["LastUpdated"]);
  if (next === undefined || lastUpdated === undefined) return undefined;
  return { last: parseDate(value["Last"]), next, lastUpdated };
}

function parseDate(value: unknown): Date | undefined {
  if (typeof value !== "string" || value === NEVER) return undefined;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? undefined : date;
}
