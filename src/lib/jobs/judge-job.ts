import type { JobState } from "./job-ledger.ts";
import { nextSlot, type SlotRule } from "./plan-slots.ts";
import { EARLY_MS } from "./run-job.ts";

/** A slot without a row for so long is the supervisor's to have run: its timer, a cold start included, had its time. */
export const OWING_MS = 90_000;

export interface JobJudgement {
  /** A slot has no row, and its timer had its time. */
  readonly isOwing: boolean;
  /** Slots have passed since the timer last fired, whoever ran them; `since` is the first of them. */
  readonly silent: { readonly since: number } | undefined;
  readonly failing: boolean;
}

/** What is wrong with a job. `now` is the clock of the database. */
export function judgeJob(
  rule: SlotRule,
  { since, lastTickAt, plannedFrom, last }: JobState,
  now: number,
): JobJudgement {
  const isOver = (slotAt: number | undefined) => slotAt !== undefined && slotAt <= now - OWING_MS;
  const owed = nextSlot(rule, since)?.at;
  // A tick a moment before its slot was for that slot.
  const heardAt = Math.max(plannedFrom, (lastTickAt ?? 0) + EARLY_MS);
  const unheard = nextSlot(rule, heardAt)?.at;
  return {
    isOwing: isOver(owed),
    silent: unheard !== undefined && isOver(unheard) ? { since: unheard } : undefined,
    failing: last !== undefined && last.status !== "succeeded",
  };
}
