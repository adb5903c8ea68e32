import type { JobSpec } from "./job.ts";
import { planSlots, type SlotRule } from "./plan-slots.ts";

/** Slots that one tick plans at most; a minute schedule has as many in three and a half days. */
export const SLOTS_PER_TICK_MAX = 5000;
/** Runs that one tick catches up at most; the next tick goes on. */
export const CATCH_UPS_PER_TICK_MAX = 24;
/** A slot that starts later than this is caught up, not on time. */
export const ON_TIME_MS = 60_000;

export interface DueFacts {
  readonly rule: SlotRule;
  /** Slots up to here have a row, or are nobody's. */
  readonly since: number;
  /** The clock of the database. */
  readonly now: number;
}

export interface DueClaim {
  readonly slotAt: number;
  readonly trigger: "schedule" | "catch_up";
  /** Slots before it that are written down with it. */
  readonly covered: readonly number[];
  readonly missed: readonly number[];
}

export interface DuePlan {
  /** So many slots are due that these are only written down; then it has to be planned again. */
  readonly surplus: readonly number[];
  /** Oldest first. */
  readonly claims: readonly DueClaim[];
  /** Slots that are too old to start, without a claim that would write them down. */
  readonly missed: readonly number[];
}

/**
 * What becomes of the slots that are due. The newest one runs when it is not too late; `catchUp` decides about those
 * before it. Whether a slot really may start is decided where it is claimed.
 */
export function planDue(
  { catchUp, latestStartMs }: Pick<JobSpec, "catchUp" | "latestStartMs">,
  { rule, since, now }: DueFacts,
): DuePlan {
  const slots = planSlots(rule, since, now, SLOTS_PER_TICK_MAX + 1).map(({ at }) => at);
  if (slots.length > SLOTS_PER_TICK_MAX) {
    return { surplus: slots.slice(0, SLOTS_PER_TICK_MAX), claims: [], missed: [] };
  }
  const newest = slots.at(-1);
  if (newest === undefined) return { surplus: [], claims: [], missed: [] };
  const trigger = (slotAt: number) => (now - slotAt > ON_TIME_MS ? "catch_up" : "schedule");
  const claim = (slotAt: number, before: Partial<DueClaim> = {}): DueClaim => ({
    slotAt,
    trigger: trigger(slotAt),
    covered: [],
    missed: [],
    ...before,
  });
  const older = slots.slice(0, -1);
  if (catchUp === "skip") {
    return { surplus: [], claims: [claim(newest, { missed: older })], missed: [] };
  }
  if (catchUp === "once") {
    return { surplus: [], claims: [claim(newest, { covered: older })], missed: [] };
  }
  const missed = slots.filter((slotAt) => now - slotAt > latestStartMs);
  const startable = slots.slice(missed.length, missed.length + CATCH_UPS_PER_TICK_MAX);
  return { surplus: [], claims: startable.map((slotAt) => claim(slotAt)), missed };
}
