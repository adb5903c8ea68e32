import type { Alert, AlertLevel } from "../kernel/alerts.ts";

/** Tenants (or shards) with one cause that are one incident: nobody reads fifty alerts. */
const INCIDENT_MIN = 50;
/** A drift of this part of the tenant's month warns, if it is more than these tokens. */
export const RELATIVE_WARNING = 0.005;
export const RELATIVE_TOKENS_MIN = 100;
const DAY_MS = 86_400_000;
const SILENCE_MS = DAY_MS;
/** A month that is not closed this long after its grace needs a person. */
const HELD_MS = 2 * DAY_MS;
const SAMPLE_MAX = 10;
const RUNBOOK = "docs/operations/usage-alerts.md";

export interface DriftFinding {
  readonly tenant: string | null;
  readonly cause: string;
  /** Signed, a decimal string. */
  readonly tokens: string;
  readonly relative: string | null;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** What the ledger knows, read in one call. Amounts are decimal strings, instants milliseconds. */
export interface UsageAlertFacts {
  /** The newest audit of each of the last months. */
  readonly audits: readonly {
    readonly auditId: string;
    readonly period: number;
    readonly findings: readonly DriftFinding[];
  }[];
  /** Counters that differ, as the newest consolidation found them. */
  readonly consolidation: {
    readonly runId: string;
    readonly findings: readonly (DriftFinding & { readonly period: number })[];
  } | null;
  readonly gaps: readonly {
    readonly shard: number;
    readonly tokens: string;
    readonly entries: string;
    readonly ids: readonly string[];
  }[];
  readonly quarantine: {
    readonly entries: number;
    readonly oldest: number | null;
    readonly errors: Readonly<Record<string, number>>;
  };
  /** Shards with work that nobody visited in two intervals. */
  readonly lag: {
    readonly shards: number;
    readonly since: number | null;
    readonly sample: readonly number[];
  };
  readonly lastRunAt: number | null;
  readonly lastRecordAt: number | null;
  readonly installedAt: number;
  readonly heldPeriods: readonly {
    readonly period: number;
    readonly graceUntil: number;
    readonly heldBy: readonly unknown[];
  }[];
  /** Keys of ours that are open. */
  readonly open: readonly string[];
}

export interface UsageAlertLimits {
  readonly alertThreshold: number;
  readonly criticalThreshold: number;
  readonly isTrackingEnabled: boolean;
  /** Start of the slot before the last one; runs and visits should be newer. */
  readonly secondLastSlot: number;
  readonly now: number;
}

export interface UsageAlertPlan {
  readonly raise: readonly Alert[];
  readonly resolve: readonly string[];
}

type Thresholds = Pick<UsageAlertLimits, "alertThreshold" | "criticalThreshold">;

/**
 * Judges the facts. Pure. An alert that is open stays until its value is under half the threshold: what lies between is
 * neither reported nor resolved.
 */
export function planUsageAlerts(facts: UsageAlertFacts, limits: UsageAlertLimits): UsageAlertPlan {
  const sources = [...facts.audits.map(toSource), ...sourcesOf(facts.consolidation)];
  const drifts = sources.flatMap((source) => judgeSource(source, limits));
  const others = [
    ...judgeGaps(facts.gaps),
    ...judgeQuarantine(facts.quarantine),
    ...judgeLag(facts, limits),
    ...judgeSilence(facts, limits),
    ...facts.heldPeriods.flatMap((held) => judgeHeld(held, limits.now)),
  ];
  const raise = [...drifts.flatMap(({ alert }) => alert ?? []), ...others];
  const stay = new Set([...raise.map(({ key }) => key), ...drifts.map(({ key }) => key)]);
  return { raise, resolve: facts.open.filter((key) => !stay.has(key)) };
}

/** More than the first threshold warns, more than the second is critical. */
export function classifyAmount(amount: bigint, thresholds: Thresholds): AlertLevel | undefined {
  const size = amount < 0n ? -amount : amount;
  if (size > BigInt(thresholds.criticalThreshold)) return "critical";
  return size > BigInt(thresholds.alertThreshold) ? "warning" : undefined;
}

/** An alert, or a key that must not be resolved yet. */
interface Judged {
  readonly key: string;
  readonly alert?: Alert;
}

/** What one audit or consolidation found about one month. */
interface Source {
  readonly period: number;
  readonly foundBy: Readonly<Record<string, string>>;
  readonly findings: readonly DriftFinding[];
}

const toSource = ({ auditId, ...rest }: UsageAlertFacts["audits"][number]): Source => ({
  ...rest,
  foundBy: { auditId },
});

function sourcesOf(consolidation: UsageAlertFacts["consolidation"]): Source[] {
  if (consolidation === null) return [];
  const { runId, findings } = consolidation;
  const periods = new Set(findings.map(({ period }) => period));
  return [...periods].map((period) => ({
    period,
    foundBy: { consolidationRunId: runId },
    findings: findings.filter((finding) => finding.period === period),
  }));
}

/** One alert for each tenant and cause; one for all of them when they are many. */
function judgeSource(source: Source, limits: UsageAlertLimits): Judged[] {
  const judged = source.findings.map((finding) => judgeFinding(source, finding, limits));
  const causes = new Set(source.findings.map(({ cause }) => cause));
  return [...causes].flatMap((cause) => {
    const ofCause = judged.filter((_, i) => source.findings[i]?.cause === cause);
    const alerts = ofCause.flatMap(({ alert }) => alert ?? []);
    if (alerts.length < INCIDENT_MIN) return ofCause;
    const others = ofCause.map(({ key }) => ({ key })); // part of the incident, not over
    return [driftIncident(source, cause, alerts), ...others];
  });
}

function judgeFinding(source: Source, finding: DriftFinding, limits: UsageAlertLimits): Judged {
  const { tenant, cause, tokens, relative, evidence } = finding;
  const subject = tenant ?? String(evidence["batch"] ?? `shard ${evidence["shard"] ?? ""}`);
  const key = `${kindOf(cause)}:${source.period}:${cause}:${subject}`;
  const level = levelOf(finding, limits);
  if (level === undefined) return { key };
  return {
    key,
    alert: {
      key,
      level,
      title: `The numbers of a month differ: ${cause}`,
      value: tokens.replace("-", ""),
      threshold: String(limits.alertThreshold),
      evidence: { ...source.foundBy, period: source.period, tenant, tokens, relative, ...evidence },
      runbook: `${RUNBOOK}#${kindOf(cause)}`,
    },
  };
}

const kindOf = (cause: string): string =>
  cause === "unexplained" ? "usage_unexplained" : "usage_drift";

function levelOf(finding: DriftFinding, limits: UsageAlertLimits): AlertLevel | undefined {
  const { cause, tokens, relative } = finding;
  if (cause === "unexplained" || cause === "closed_period_changed") return "critical";
  const amount = BigInt(tokens);
  const level = classifyAmount(amount, limits);
  if (level !== undefined) return level;
  if (cause === "failed_batch") return "warning";
  const size = amount < 0n ? -amount : amount;
  const isLarge = Number(relative ?? 0) > RELATIVE_WARNING && size > BigInt(RELATIVE_TOKENS_MIN);
  return isLarge ? "warning" : undefined;
}

function driftIncident(source: Source, cause: string, alerts: readonly Alert[]): Judged {
  const key = `${kindOf(cause)}:${source.period}:${cause}`;
  const level = alerts.some((alert) => alert.level === "critical") ? "critical" : "warning";
  const sample = alerts.slice(0, SAMPLE_MAX).map(({ evidence }) => ({
    tenant: evidence["tenant"],
    tokens: evidence["tokens"],
  }));
  return {
    key,
    alert: {
      key,
      level,
      title: `The numbers of many tenants differ for one cause: ${cause}`,
      value: String(alerts.length),
      threshold: String(INCIDENT_MIN - 1),
      evidence: { ...source.foundBy, period: source.period, sample },
      runbook: `${RUNBOOK}#${kindOf(cause)}`,
    },
  };
}

/** Not zero is a loss, also when lost credits make it negative. */
function judgeGaps(gaps: UsageAlertFacts["gaps"]): Alert[] {
  const alert = (key: string, value: bigint, evidence: Alert["evidence"]): Alert => ({
    key,
    level: "critical",
    title: "Recorded usage was lost and is not recovered",
    value: String(value < 0n ? -value : value),
    threshold: "0",
    evidence,
    runbook: `${RUNBOOK}#usage_loss`,
  });
  if (gaps.length < INCIDENT_MIN) {
    return gaps.map(({ shard, ...gap }) =>
      alert(`usage_loss:${shard}`, BigInt(gap.tokens), { shard, ...gap }),
    );
  }
  const tokens = gaps.reduce((sum, gap) => sum + BigInt(gap.tokens), 0n);
  const sample = gaps.slice(0, SAMPLE_MAX);
  return [alert("usage_loss", tokens, { shards: gaps.length, tokens: String(tokens), sample })];
}

function judgeQuarantine({ entries, oldest, errors }: UsageAlertFacts["quarantine"]): Alert[] {
  if (entries === 0) return [];
  return [
    {
      key: "usage_quarantine",
      level: "warning",
      title: "Entries wait for a decision in quarantine",
      value: String(entries),
      threshold: "0",
      evidence: { entries, oldest: instant(oldest), errors },
      runbook: `${RUNBOOK}#usage_quarantine`,
    },
  ];
}

function judgeLag({ lag, ...facts }: UsageAlertFacts, limits: UsageAlertLimits): Alert[] {
  const alerts: Alert[] = [];
  const { lastRunAt, installedAt } = facts;
  if (Math.max(lastRunAt ?? 0, installedAt) < limits.secondLastSlot) {
    alerts.push({
      key: "usage_not_run",
      level: "critical",
      title: "The reconciliation did not run at its last two slots",
      evidence: { lastRunAt: instant(lastRunAt) },
      runbook: `${RUNBOOK}#usage_not_run`,
    });
  }
  if (lag.shards > 0) {
    alerts.push({
      key: "usage_lag",
      level: "warning",
      title: "Shards with work were not visited for two intervals",
      value: String(lag.shards),
      threshold: "0",
      evidence: { shards: lag.shards, since: instant(lag.since), sample: lag.sample },
      runbook: `${RUNBOOK}#usage_lag`,
    });
  }
  return alerts;
}

function judgeSilence(facts: UsageAlertFacts, limits: UsageAlertLimits): Alert[] {
  if (!limits.isTrackingEnabled) {
    return [
      {
        key: "usage_tracking_disabled",
        level: "warning",
        title: "Usage tracking is switched off",
        evidence: { setting: "ENABLE_USAGE_TRACKING" },
        runbook: `${RUNBOOK}#usage_tracking_disabled`,
      },
    ];
  }
  const heardAt = facts.lastRecordAt ?? facts.installedAt;
  if (limits.now - heardAt <= SILENCE_MS) return [];
  return [
    {
      key: "usage_silence",
      level: "warning",
      title: "Nothing was recorded for a day although usage tracking is on",
      evidence: { lastRecordAt: instant(facts.lastRecordAt) },
      runbook: `${RUNBOOK}#usage_silence`,
    },
  ];
}

function judgeHeld(held: UsageAlertFacts["heldPeriods"][number], now: number): Alert[] {
  if (now - held.graceUntil <= HELD_MS) return [];
  return [
    {
      key: `usage_period_held:${held.period}`,
      level: "warning",
      title: "A month cannot be closed",
      evidence: {
        period: held.period,
        graceUntil: instant(held.graceUntil),
        heldBy: held.heldBy,
      },
      runbook: `${RUNBOOK}#usage_period_held`,
    },
  ];
}

const instant = (ms: number | null): string | null =>
  ms === null ? null : new Date(ms).toISOString();
