import type { Alerts } from "../kernel/alerts.ts";
import type { Run } from "../kernel/run.ts";
import type { CachedHealth } from "./cached-health.ts";
import type { ComponentStatus, Health } from "./probe-backends.ts";

const COMPONENTS = ["cache", "database", "scheduler"] as const;

/** What `/health` says, as alerts and for the daily report. */
export async function alertAboutHealth(
  { health, alerts }: { readonly health: CachedHealth; readonly alerts: Alerts },
  run: Run,
): Promise<{ readonly health: Readonly<Record<string, ComponentStatus>> }> {
  const seen = await health.read();
  for (const component of COMPONENTS) await report(alerts, component, seen[component], run.signal);
  return { health: statusesOf(seen) };
}

const statusesOf = (health: Health): Record<string, ComponentStatus> =>
  Object.fromEntries(COMPONENTS.map((component) => [component, health[component]]));

/** A slow answer is not worth a page; it is in the report of the day. */
async function report(
  alerts: Alerts,
  component: string,
  status: ComponentStatus,
  signal: AbortSignal,
): Promise<void> {
  const key = `component_unavailable:${component}`;
  if (status === "available") return alerts.resolve(key, signal);
  if (status === "degraded") return;
  await alerts.raise(
    {
      key,
      level: "critical",
      title: "A component is unavailable",
      evidence: { component },
      runbook: "docs/operations/a-component-is-unavailable.md",
    },
    signal,
  );
}
