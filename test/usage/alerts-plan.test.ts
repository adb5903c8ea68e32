import { describe, expect, test } from "vitest";
import {
  classifyAmount,
  type DriftFinding,
  planUsageAlerts,
  type UsageAlertFacts,
  type UsageAlertLimits,
} from "../../src/lib/usage/plan-usage-alerts.ts";

const NOW = Date.parse("2026-12-10T12:00:00Z");
const HOUR_MS = 3_600_000;

const LIMITS: UsageAlertLimits = {
  alertThreshold: 1000,
  criticalThreshold: 5000,
  isTrackingEnabled: true,
  secondLastSlot: NOW - 34 * HOUR_MS,
  now: NOW,
};

const FACTS: UsageAlertFacts = {
  audits: [],
  consolidation: null,
  gaps: [],
  quarantine: { entries: 0, oldest: null, errors: {} },
  lag: { shards: 0, since: null, sample: [] },
  lastRunAt: NOW - 10 * HOUR_MS,
  lastRecordAt: NOW - HOUR_MS,
  installedAt: NOW - 1000 * HOUR_MS,
  heldPeriods: [],
  open: [],
};

const plan = (facts: Partial<UsageAlertFacts> = {}, limits: Partial<UsageAlertLimits> = {}) => {
  const { raise, resolve } = planUsageAlerts({ ...FACTS, ...facts }, { ...LIMITS, ...limits });
  return { raised: raise.map(({ key, level }) => `${level} ${key}`), resolve, raise };
};

const finding = (parts: Partial<DriftFinding> = {}): DriftFinding => ({
  tenant: "acme",
  cause: "ledger_edited",
  tokens: "0",
  relative: null,
  evidence: {},
  ...parts,
});
const audited = (...findings: DriftFinding[]): Partial<UsageAlertFacts> => ({
  audits: [{ auditId: "a1", period: 202_611, findings }],
});

test("nothing wrong raises nothing", () => {
  expect(plan()).toMatchObject({ raised: [], resolve: [] });
});

describe("an amount", () => {
  test.each([
    [0n, undefined],
    [1000n, undefined],
    [1001n, "warning"],
    [-1001n, "warning"],
    [5000n, "warning"],
    [5001n, "critical"],
    [-5001n, "critical"],
    [10n ** 30n, "critical"],
  ] as const)("of %s is %s", (amount, level) => {
    expect(classifyAmount(amount, LIMITS)).toBe(level);
  });
});

describe("a drift", () => {
  const KEY = "usage_drift:202611:ledger_edited:acme";
  test.each([
    ["1001", null, [`warning ${KEY}`]],
    ["-5001", null, [`critical ${KEY}`]],
    ["1000", "0.9", [`warning ${KEY}`]], // a large part of the month
    ["101", "0.005001", [`warning ${KEY}`]],
    ["100", "0.9", []], // too few tokens
    ["1000", "0.005", []], // too small a part
    ["1000", null, []],
  ])("of %s tokens, %s of the month, raises %j", (tokens, relative, expected) => {
    expect(plan(audited(finding({ tokens, relative }))).raised).toEqual(expected);
  });

  test("without a cause is critical whatever its amount", () => {
    const unexplained = finding({ cause: "unexplained", tokens: "1" });
    expect(plan(audited(unexplained)).raised).toEqual([
      "critical usage_unexplained:202611:unexplained:acme",
    ]);
  });

  test("of a closed month is critical, of a failed batch at least a warning", () => {
    const changed = finding({
      cause: "closed_period_changed",
      tenant: null,
      evidence: { shard: 7 },
    });
    const failed = finding({ cause: "failed_batch", tenant: null, evidence: { batch: "42" } });
    expect(plan(audited(changed, failed)).raised).toEqual([
      "critical usage_drift:202611:closed_period_changed:shard 7",
      "warning usage_drift:202611:failed_batch:42",
    ]);
  });

  test("carries tenant, exact amount and evidence", () => {
    const drift = finding({ tokens: "-9007199254740993", evidence: { batches: ["1"] } });
    expect(plan(audited(drift)).raise).toMatchObject([
      {
        value: "9007199254740993",
        threshold: "1000",
        evidence: { auditId: "a1", tenant: "acme", tokens: "-9007199254740993", batches: ["1"] },
        runbook: "docs/operations/usage-alerts.md#usage_drift",
      },
    ]);
  });

  test("that is open stays between half the threshold and the threshold, and ends below", () => {
    const open = [KEY];
    // What is under half of the threshold is not part of the facts.
    expect(plan({ ...audited(finding({ tokens: "600" })), open })).toMatchObject({
      raised: [],
      resolve: [],
    });
    expect(plan({ ...audited(), open })).toMatchObject({ raised: [], resolve: [KEY] });
  });

  test("of fifty tenants with one cause is one incident, of forty-nine is not", () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, i) => finding({ tenant: `t${i}`, tokens: `${2000 + i}` }));
    expect(plan(audited(...many(49))).raised).toHaveLength(49);
    const incident = plan(audited(...many(50)));
    expect(incident.raised).toEqual(["warning usage_drift:202611:ledger_edited"]);
    expect(incident.raise).toMatchObject([{ value: "50", threshold: "49" }]);
    expect(plan(audited(...many(49), finding({ tokens: "6000" }))).raised).toEqual([
      "critical usage_drift:202611:ledger_edited",
    ]);
  });

  test("that becomes part of an incident is not over", () => {
    const many = Array.from({ length: 50 }, (_, i) => finding({ tenant: `t${i}`, tokens: "2000" }));
    const open = ["usage_drift:202611:ledger_edited:t3", "usage_drift:202611:ledger_edited:gone"];
    expect(plan({ ...audited(...many), open }).resolve).toEqual([
      "usage_drift:202611:ledger_edited:gone",
    ]);
  });

  test("between a counter and the ledger counts like any other, by month", () => {
    const drift = { ...finding({ cause: "redis_ahead", tokens: "6000" }), period: 202_612 };
    const consolidation = { runId: "r1", findings: [drift, { ...drift, period: 202_611 }] };
    expect(plan({ consolidation }).raised).toEqual([
      "critical usage_drift:202612:redis_ahead:acme",
      "critical usage_drift:202611:redis_ahead:acme",
    ]);
  });

  test("of one cause does not make an incident of another", () => {
    const many = Array.from({ length: 50 }, (_, i) => finding({ tenant: `t${i}`, tokens: "2000" }));
    const other = finding({ cause: "events_missing", tokens: "2000" });
    expect(plan(audited(...many, other)).raised).toEqual([
      "warning usage_drift:202611:ledger_edited",
      "warning usage_drift:202611:events_missing:acme",
    ]);
  });
});

describe("a loss", () => {
  const gap = (shard: number, tokens: string) => ({ shard, tokens, entries: "1", ids: ["9"] });
  test("is critical, also when lost credits make it negative, or when amounts cancel", () => {
    expect(plan({ gaps: [gap(1, "5"), gap(2, "-5"), gap(3, "0")] }).raised).toEqual([
      "critical usage_loss:1",
      "critical usage_loss:2",
      "critical usage_loss:3",
    ]);
  });

  test("that is recovered ends", () => {
    expect(plan({ open: ["usage_loss:1"] }).resolve).toEqual(["usage_loss:1"]);
  });

  test("of fifty shards is one incident with the sum", () => {
    const gaps = Array.from({ length: 50 }, (_, shard) => gap(shard, "-2"));
    expect(plan({ gaps }).raise).toMatchObject([
      { key: "usage_loss", level: "critical", value: "100", evidence: { tokens: "-100" } },
    ]);
  });
});

describe("the rest", () => {
  test("entries in quarantine warn", () => {
    const quarantine = { entries: 2, oldest: NOW, errors: { format: 2 } };
    expect(plan({ quarantine }).raised).toEqual(["warning usage_quarantine"]);
  });

  test("shards that nobody visits warn", () => {
    const lag = { shards: 3, since: NOW - 50 * HOUR_MS, sample: [1, 2, 3] };
    expect(plan({ lag }).raised).toEqual(["warning usage_lag"]);
  });

  test.each([
    [NOW - 33 * HOUR_MS, []],
    [NOW - 35 * HOUR_MS, ["critical usage_not_run"]],
    [null, ["critical usage_not_run"]],
  ])("a last run at %s raises %j", (lastRunAt, expected) => {
    expect(plan({ lastRunAt }).raised).toEqual(expected);
  });

  test("a young installation that has not run yet is fine", () => {
    const young = { lastRunAt: null, lastRecordAt: null, installedAt: NOW - HOUR_MS };
    expect(plan(young).raised).toEqual([]);
  });

  test.each([
    [NOW - 24 * HOUR_MS, []],
    [NOW - 24 * HOUR_MS - 1, ["warning usage_silence"]],
    [null, ["warning usage_silence"]],
  ])("a last record at %s raises %j", (lastRecordAt, expected) => {
    expect(plan({ lastRecordAt }).raised).toEqual(expected);
  });

  test("tracking that is switched off warns of that and of no silence", () => {
    const off = { isTrackingEnabled: false };
    expect(plan({ lastRecordAt: null }, off).raised).toEqual(["warning usage_tracking_disabled"]);
  });

  test("a month that is held two days after its grace warns", () => {
    const held = (graceUntil: number) => ({
      heldPeriods: [{ period: 202_611, graceUntil, heldBy: [{ reason: "open_gap" }] }],
    });
    expect(plan(held(NOW - 48 * HOUR_MS)).raised).toEqual([]);
    expect(plan(held(NOW - 49 * HOUR_MS)).raised).toEqual(["warning usage_period_held:202611"]);
  });
});
