import { describe, expect, test } from "vitest";
import {
  STARTING_MS,
  WHY_REASONS,
  type WhyFacts,
  type WhyReason,
  whyNotRunning,
} from "../../src/lib/jobs/why-not-running.ts";

const NOW = Date.parse("2026-11-24T10:30:00Z");
const SLOT = NOW - 10 * 60_000;
const NEXT = NOW + 50 * 60_000;
const FINE: WhyFacts = {
  now: NOW,
  isEnabled: true,
  isKnown: true,
  nextSlotAt: NEXT,
  last: { runId: "r1", status: "succeeded", endedAt: SLOT + 1000 },
};
const running = (startedAt: number, leaseUntil = NOW + 1) => ({
  runId: "r2",
  startedAt,
  leaseUntil,
});
const waiting = (isRetry: boolean, more: object = {}) => ({
  runId: "r3",
  startAfter: NOW + 1000,
  reason: "retry",
  isRetry,
  errorCode: "redis_unavailable",
  ...more,
});
const ended = (status: string, more: object = {}) => ({
  runId: "r1",
  status,
  endedAt: SLOT + 1000,
  ...more,
});

/** One fixture for each reason, and the borders between two of them. */
const CASES: readonly [string, WhyReason, WhyFacts | undefined][] = [
  ["the database does not answer", "database_unavailable", undefined],
  ["somebody disabled it", "disabled", { ...FINE, isEnabled: false, disabledBy: "ana" }],
  [
    "it is disabled while a run works",
    "disabled",
    { ...FINE, isEnabled: false, running: running(SLOT) },
  ],
  [
    "a run of before the slot works",
    "overlapping",
    { ...FINE, running: running(SLOT - 1), slotDuringRunAt: SLOT },
  ],
  ["a run of the slot works", "running", { ...FINE, running: running(SLOT) }],
  ["its worker fell silent", "worker_lost", { ...FINE, running: running(SLOT, NOW) }],
  [
    "a run that was asked for waits for another",
    "overlapping",
    { ...FINE, running: running(SLOT), waiting: waiting(false, { reason: "overlap" }) },
  ],
  [
    "the last attempt failed and another is planned",
    "waiting_retry",
    { ...FINE, waiting: waiting(true) },
  ],
  ["somebody just asked for it", "starting", { ...FINE, waiting: waiting(false) }],
  ["the slot has no row and is young", "starting", { ...FINE, openSlotAt: NOW - STARTING_MS + 1 }],
  [
    "the slot has no row and is not young any more",
    "no_instance",
    { ...FINE, openSlotAt: NOW - STARTING_MS },
  ],
  ["no instance has told the ledger of it", "no_instance", { ...FINE, isKnown: false }],
  ["the last run failed", "last_failed", { ...FINE, last: ended("failed", { errorCode: "x_y" }) }],
  ["the last run was abandoned", "last_failed", { ...FINE, last: ended("abandoned") }],
  [
    "the last slot was missed",
    "last_missed",
    { ...FINE, last: ended("missed", { reason: "too_late" }) },
  ],
  ["all is well", "not_due", FINE],
  ["the last run was cancelled", "not_due", { ...FINE, last: ended("cancelled") }],
  ["the last slot was caught up", "not_due", { ...FINE, last: ended("caught_up") }],
  ["it never ran", "not_due", { ...FINE, last: undefined }],
  ["its schedule is over", "never_due", { ...FINE, nextSlotAt: undefined }],
];

describe("why is it not running?", () => {
  test.each(CASES)("%s: %s", (_, reason, facts) => {
    const why = whyNotRunning(facts);
    expect(why.reason).toBe(reason);
    expect(why.text).toMatch(/^[A-Za-z].*\.$/);
    expect(why.text).not.toMatch(/undefined|NaN/);
  });

  test("has a fixture for every reason", () => {
    expect(new Set(CASES.map(([, reason]) => reason))).toEqual(new Set(WHY_REASONS));
  });

  test.each([
    [
      "disabled",
      { ...FINE, isEnabled: false, disabledBy: "ana", disabledReason: "freeze", disabledAt: SLOT },
      "ana disabled it: freeze.",
    ],
    [
      "last_failed",
      { ...FINE, last: ended("failed", { errorCode: "redis_unavailable" }) },
      "Its last run ended with redis_unavailable.",
    ],
  ])("%s says who or what", (_, facts, text) => {
    expect(whyNotRunning(facts as WhyFacts).text).toBe(text);
  });

  test("names the instant it is about, and the run", () => {
    expect(whyNotRunning(FINE)).toMatchObject({ at: "2026-11-24T11:20:00.000Z" });
    const busy = whyNotRunning({ ...FINE, running: running(NOW - 5000) });
    expect(busy).toMatchObject({ runId: "r2", at: "2026-11-24T10:29:55.000Z" });
    expect(busy.text).toContain("for 5 s");
  });
});
