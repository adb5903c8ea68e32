import type { Run } from "../../kernel/run.ts";
import type { LegacyRunSummary } from "./drain-legacy.ts";
import type { LegacyConfig } from "./legacy-config.ts";

/** Alerts of the operators. Raising a key that is raised, and resolving one that is not, change nothing. */
export interface Alerts {
  raise(alert: Alert, signal: AbortSignal): Promise<void>;
  resolve(key: string, signal: AbortSignal): Promise<void>;
}

export interface Alert {
  readonly key: string;
  readonly level: "warning" | "critical";
  readonly title: string;
  readonly evidence: Readonly<Record<string, unknown>>;
  /** A page of docs/operations. */
  readonly runbook: string;
}

export interface LegacyAlertDeps {
  /** Without them the log lines are all there is. */
  readonly alerts?: Alerts;
  readonly legacyConfig: LegacyConfig;
}

const RUNBOOK = "docs/operations/legacy-producers.md";

/** What a run means to an operator: one alert for each subject, raised or resolved. Pure. */
export function planAlerts(
  runId: string,
  summary: LegacyRunSummary,
  { alertThreshold, criticalThreshold, counterTenants }: LegacyConfig,
): readonly { readonly key: string; readonly alert: Alert | undefined }[] {
  const records = summary.booked + summary.setAside;
  const worst = summary.worst[0]?.apart ?? "0";
  const isFarApart = BigInt(worst.replace("-", "")) > BigInt(criticalThreshold);
  const about = (
    key: string,
    isRaised: boolean,
    isCritical: boolean,
    title: string,
    evidence: Readonly<Record<string, unknown>>,
  ) => {
    const level = isCritical ? ("critical" as const) : ("warning" as const);
    const alert = { key, level, title, evidence: { runId, ...evidence }, runbook: RUNBOOK };
    return { key, alert: isRaised ? alert : undefined };
  };
  return [
    about(
      "usage_legacy_volume",
      records > alertThreshold,
      records > criticalThreshold,
      "Many database writes of older producers fail",
      { records, booked: summary.booked, setAside: summary.setAside },
    ),
    about(
      "usage_legacy_drift",
      summary.tenantsApart > 0,
      isFarApart,
      "Older producers count and book different amounts",
      { tenants: summary.tenantsApart, worst: summary.worst },
    ),
    about(
      "usage_legacy_counter_gap",
      summary.resets > 0,
      counterTenants.size > 0,
      "Counters of older producers fell or jumped",
      { counters: summary.resets },
    ),
    about(
      "usage_legacy_cluster",
      summary.counters === "cluster",
      counterTenants.size > 0,
      "The counters of older producers cannot be read on a cluster",
      {},
    ),
  ];
}

/** A log line for each subject that needs a person, and its alert. */
export async function alertLegacy(
  { alerts, legacyConfig }: LegacyAlertDeps,
  runId: string,
  summary: LegacyRunSummary,
  run: Run,
): Promise<void> {
  for (const { key, alert } of planAlerts(runId, summary, legacyConfig)) {
    if (alert === undefined) {
      await alerts?.resolve(key, run.signal);
      continue;
    }
    run.log.warn(key, { level: alert.level, ...alert.evidence });
    await alerts?.raise(alert, run.signal);
  }
}
