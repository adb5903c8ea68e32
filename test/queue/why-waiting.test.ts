import { expect, test } from "vitest";
import { WAIT_REASONS, type WaitFacts, whyWaiting } from "../../src/lib/queue/why-waiting.ts";

const facts = (over: Partial<WaitFacts>): WaitFacts => ({
  state: "queued",
  isDue: true,
  isLeaseOver: false,
  cancelRequestedAt: null,
  sentAt: null,
  sentSeconds: null,
  runningOfTenant: 0,
  ...over,
});
const sentAt = "2026-11-24T00:00:00Z";
const spec = { runningPerTenantMax: 2 };

const CASES = [
  ["ended", { state: "succeeded" }],
  ["ended", { state: "dead", isDue: false }],
  ["ended", { state: "cancelled", cancelRequestedAt: sentAt }],
  ["running", { state: "running", runningOfTenant: 2 }],
  ["cancelling", { state: "running", cancelRequestedAt: sentAt }],
  ["worker_lost", { state: "running", isLeaseOver: true, cancelRequestedAt: sentAt }],
  ["not_due", { isDue: false }],
  ["not_due", { isDue: false, sentAt, sentSeconds: -30 }],
  ["waiting_retry", { state: "retrying", isDue: false, sentAt, sentSeconds: -900 }],
  ["tenant_limit", { runningOfTenant: 2 }],
  ["waiting_turn", { runningOfTenant: 1 }],
  ["waiting_turn", { state: "retrying" }],
  ["in_queue", { sentAt, sentSeconds: 300 }],
  ["in_queue", { state: "retrying", sentAt, sentSeconds: 0, runningOfTenant: 2 }],
  ["no_worker", { sentAt, sentSeconds: 301 }],
] as const satisfies readonly (readonly [string, Partial<WaitFacts>])[];

test.each(CASES)("the answer is %s for %o", (reason, over) => {
  const why = whyWaiting(facts(over), spec);
  expect(why.reason).toBe(reason);
  expect(why.text).not.toBe("");
});

test("the answer is kind_unknown when no worker of this version knows it", () => {
  expect(whyWaiting(facts({}), undefined).reason).toBe("kind_unknown");
});

test("every reason has a fixture", () => {
  const seen = new Set<string>([...CASES.map(([reason]) => reason), "kind_unknown"]);
  expect([...seen].sort()).toEqual([...WAIT_REASONS].sort());
});
