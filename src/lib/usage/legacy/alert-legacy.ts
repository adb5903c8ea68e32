import type { Alert, Alerts } from "../../kernel/alerts.ts";
import type { LegacyRunSummary } from "./drain-legacy.ts";
import type { LegacyConfig } from "./legacy-config.ts";

export interface LegacyAlertDeps {
  readonly alerts: Alerts;
  readonly legacyConfig: LegacyConfig;
}

const RUNBOOK = "docs/operations/legacy-producers.md";

/** What a run means to an operator: one alert for each subject, raised or resolved. Pure. */
export function planAlerts(
  runId: string,
  summary: LegacyRunSummary,
  { alertThreshold, criticalThreshold, counterTenants }: LegacyConfig,
): readonly PlannedAlert[] {
  const records = summary.booked + summary.setAside;
  const apart = summary.worst[0]?.apart.replace("-", "") ?? "0";
  const hasCounterTenants = counterTenants.size > 0;
  return [
    {
      isRaised: records > alertThreshold,
      alert: {
        key: "usage_legacy_volume",
        level: levelOf(records > criticalThreshold),
        title: "Many database writes of older producers fail",
        evidence: { runId, records, booked: summary.booked, setAside: summary.setAside },
        runbook: `${RUNBOOK}#many-records-in-the-pending-set`,
        value: String(records),
        threshold: String(alertThreshold),
      },
    },
    {
      isRaised: summary.tenantsApart > 0,
      alert: {
        key: "usage_legacy_drift",
        level: levelOf(BigInt(apart) > BigInt(criticalThreshold)),
        title: "Older producers count and book different amounts",
        evidence: { runId, tenants: summary.tenantsApart, worst: summary.worst },
        runbook: `${RUNBOOK}#counted-and-booked-are-apart`,
        value: apart,
        threshold: String(alertThreshold),
      },
    },
    {
      isRaised: summary.resets > 0,
      alert: {
        key: "usage_legacy_counter_gap",
        level: levelOf(hasCounterTenants),
        title: "Counters of older producers fell or jumped",
        evidence: { runId, counters: summary.resets },
        runbook: `${RUNBOOK}#counters-fell-or-jumped`,
        value: String(summary.resets),
      },
    },
    {
      isRaised: summary.counters === "cluster",
      alert: {
        key: "usage_legacy_cluster",
        level: levelOf(hasCounterTenants),
        title: "The counters of older producers cannot be read on a cluster",
        evidence: { runId },
        runbook: `${RUNBOOK}#redis-is-a-cluster`,
      },
    },
  ];
}

export interface PlannedAlert {
  readonly isRaised: boolean;
  readonly alert: Alert;
}

const levelOf = (isCritical: boolean) => (isCritical ? "critical" : "warning");

/** Safe to repeat: one key is one incident. */
export async function alertLegacy(
  { alerts, legacyConfig }: LegacyAlertDeps,
  runId: string,
  summary: LegacyRunSummary,
  signal: AbortSignal,
): Promise<void> {
  for (const { alert, isRaised } of planAlerts(runId, summary, legacyConfig)) {
    await (isRaised ? alerts.raise(alert, signal) : alerts.resolve(alert.key, signal));
  }
}
