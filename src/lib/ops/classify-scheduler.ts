import { parseNcrontab } from "../kernel/ncrontab.ts";
import type { ComponentStatus } from "./probe-backends.ts";

/** A job whose slots are expected, in UTC. */
export interface WatchedJob {
  readonly id: string;
  readonly schedule: string;
  readonly isCritical: boolean;
}

/** What the ledger of slots knows. Instants in milliseconds. */
export interface SchedulerFacts {
  readonly installedAt: number;
  /** By job: slots up to here have a row, or are nobody's. A job that never spoke is not in it. */
  readonly writtenUntil: Readonly<Record<string, number>>;
}

/** A slot may have its row this late before anybody worries: a cold start and the host's lease take-over. */
const GRACE_MS = 10 * 60_000;

/**
 * Judges the timers by the slots they wrote down, not by what this process believes: every timer runs in instances of
 * its own. One slot without a row is `degraded`; two of a critical job, or of every job, are `unavailable`.
 */
export function classifyScheduler(
  jobs: readonly WatchedJob[],
  { installedAt, writtenUntil }: SchedulerFacts,
  now: number,
): ComponentStatus {
  if (Number.isNaN(installedAt)) throw new RangeError("not a valid date");
  const judged = jobs.map(({ id, schedule, isCritical }) => ({
    isCritical,
    missing: missingSlots(schedule, writtenUntil[id] ?? installedAt, now),
  }));
  const isGone = ({ missing }: { missing: number }) => missing >= 2;
  const isAllGone = judged.length > 0 && judged.every(isGone);
  if (isAllGone || judged.some((it) => it.isCritical && isGone(it))) return "unavailable";
  return judged.some(({ missing }) => missing > 0) ? "degraded" : "available";
}

/** 0, 1, or 2 = more than one. */
function missingSlots(schedule: string, writtenUntil: number, now: number): number {
  const { next } = parseNcrontab(schedule);
  const isOver = (slot: Date) => slot.getTime() < now - GRACE_MS;
  const first = next(new Date(writtenUntil));
  if (!isOver(first)) return 0;
  return isOver(next(first)) ? 2 : 1;
}
