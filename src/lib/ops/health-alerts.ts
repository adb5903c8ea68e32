import type { Alerts } from "../kernel/alerts.ts";
import { transient } from "../kernel/errors.ts";
import { type RetryOptions, retry } from "../kernel/retry.ts";
import type { Run } from "../kernel/run.ts";
import type { CachedHealth } from "./cached-health.ts";
import type { ComponentStatus, Health } from "./probe-backends.ts";

const COMPONENTS = ["cache", "database", "scheduler"] as const;

export interface HealthAlertDeps {
  readonly health: CachedHealth;
  readonly alerts: Alerts;
  /** Of tests. */
  readonly sleep?: RetryOptions["sleep"];
}

/** A process that has just started is slow to connect, and one lost answer is no outage. */
const LOOKS = 3;
const BETWEEN_LOOKS_MS = 3000;

/** What `/health` says, as alerts and for the daily report. What looks unavailable is looked at again before it counts. */
export async function alertAboutHealth(
  { health, alerts, sleep }: HealthAlertDeps,
  run: Run,
): Promise<{ readonly health: Readonly<Record<string, ComponentStatus>> }> {
  let seen = await health.read();
  const look = async () => {
    seen = await health.read();
    if (hasOutage(seen)) throw transient("deadline_exceeded");
  };
  const limits = { attempts: LOOKS, signal: run.signal, ...(sleep === undefined ? {} : { sleep }) };
  const pause = { baseMs: BETWEEN_LOOKS_MS, capMs: BETWEEN_LOOKS_MS, random: () => 1 };
  await retry(look, { ...limits, ...pause }).catch(() => {}); // then it is what it looks like
  for (const component of COMPONENTS) await report(alerts, component, seen[component], run.signal);
  return { health: statusesOf(seen) };
}

const hasOutage = (health: Health): boolean =>
  COMPONENTS.some((component) => health[component] === "unavailable");

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
