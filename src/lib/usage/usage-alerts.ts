import type { Alerts } from "../kernel/alerts.ts";
import type { Clock } from "../kernel/clock.ts";
import { toFailure } from "../kernel/errors.ts";
import { parseNcrontab } from "../kernel/ncrontab.ts";
import type { Run } from "../kernel/run.ts";
import {
  planUsageAlerts,
  RELATIVE_TOKENS_MIN,
  RELATIVE_WARNING,
  type UsageAlertFacts,
} from "./plan-usage-alerts.ts";

/** A run may start this late before anybody worries. */
const GRACE_MS = 10 * 60_000;

export interface FactsQuery {
  /** Drifts of fewer tokens and of a smaller part of the month are left out. */
  readonly tokensMin: number;
  readonly relativeMin: number;
  readonly relativeTokensMin: number;
  /** What was planned until then should have been visited by now. */
  readonly plannedBefore: number;
  readonly now: number;
}

export interface UsageFacts {
  /** One call, one snapshot. */
  read(query: FactsQuery, signal: AbortSignal): Promise<UsageAlertFacts>;
}

export interface UsageAlertDeps {
  readonly clock: Clock;
  readonly usageFacts: UsageFacts;
  readonly alerts: Alerts;
  readonly usageConfig: {
    readonly alertThreshold: number;
    readonly criticalThreshold: number;
    readonly isTrackingEnabled: boolean;
    readonly dailySchedule: string;
  };
}

/**
 * Reports what is wrong with usage and resolves what is over. Safe to repeat: reports of one key are one incident. Each
 * alert is told on its own; one that cannot be told does not keep the others, and its error is thrown at the end.
 */
export async function raiseUsageAlerts(deps: UsageAlertDeps, run: Run): Promise<void> {
  const { alertThreshold, dailySchedule } = deps.usageConfig;
  const now = deps.clock.now();
  const secondLastSlot = secondLastSlotOf(dailySchedule, now);
  const facts = await deps.usageFacts.read(
    {
      // Half of each threshold: between the two, what is open stays open.
      tokensMin: Math.floor(alertThreshold / 2),
      relativeMin: RELATIVE_WARNING / 2,
      relativeTokensMin: RELATIVE_TOKENS_MIN / 2,
      plannedBefore: secondLastSlot,
      now,
    },
    run.signal,
  );
  const plan = planUsageAlerts(facts, { ...deps.usageConfig, secondLastSlot, now });
  run.note({ alertsRaised: plan.raise.length, alertsResolved: plan.resolve.length });
  const failures: unknown[] = [];
  const told = async (key: string, work: () => Promise<void>) => {
    await work().catch((error: unknown) => {
      run.log.warn("alert_not_told", { key, code: toFailure(error).code });
      failures.push(error);
    });
  };
  for (const alert of plan.raise) await told(alert.key, () => deps.alerts.raise(alert, run.signal));
  for (const key of plan.resolve) await told(key, () => deps.alerts.resolve(key, run.signal));
  if (failures.length > 0) throw failures[0];
}

/** Two slots ago; 0 when the schedule has none. */
function secondLastSlotOf(schedule: string, now: number): number {
  const { previous } = parseNcrontab(schedule);
  const last = previous(new Date(now - GRACE_MS));
  return (last && previous(last)?.getTime()) ?? 0;
}
