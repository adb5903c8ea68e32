import { parseNcrontab } from "../kernel/ncrontab.ts";
import type { ComponentStatus } from "./probe-backends.ts";

/** What the ledger of runs knows. Instants in milliseconds; null = never. */
export interface SchedulerFacts {
  readonly installedAt: number;
  readonly lastStartedAt: number | null;
}

/** A planned run may start this late before anybody worries: a cold start and the host's lease take-over. */
const GRACE_MS = 10 * 60_000;

/**
 * Judges the timers by what they did, not by what this process believes: every timer runs in instances of its own.
 * The last planned slot without a run is `degraded`, the one before missing too is `unavailable`.
 */
export function classifyScheduler(
  schedule: string,
  { installedAt, lastStartedAt }: SchedulerFacts,
  now: number,
): ComponentStatus {
  const { previous } = parseNcrontab(schedule);
  const lastSlot = previous(new Date(now - GRACE_MS));
  if (lastSlot === undefined) return "available";
  const seen = Math.max(lastStartedAt ?? 0, installedAt);
  if (seen >= lastSlot.getTime() - EARLY_MS) return "available";
  const slotBefore = previous(lastSlot);
  const isOneMissing = slotBefore === undefined || seen >= slotBefore.getTime() - EARLY_MS;
  return isOneMissing ? "degraded" : "unavailable";
}

/** The host may fire a few milliseconds before the slot, and clocks differ a little. */
const EARLY_MS = 5000;
