import type { ScheduleSetting } from "./config.ts";
import type { Job, JobSpec } from "./lib/jobs/job.ts";
import { startMonthlyAudit } from "./lib/usage/audit-start.ts";
import { closeDuePeriods } from "./lib/usage/close-period.ts";
import { dispatchConsolidation } from "./lib/usage/consolidate-dispatch.ts";
import { dispatchShards } from "./lib/usage/dispatch-shards.ts";
import { dispatchLegacy } from "./lib/usage/legacy/dispatch-legacy.ts";
import { observeShards } from "./lib/usage/observe-shards.ts";
import { raiseUsageAlerts } from "./lib/usage/usage-alerts.ts";
import type { Services } from "./services.ts";

type ServiceJob = Job<Services, ScheduleSetting>;

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Everything runs by UTC; the rule shows once a job is given a zone with clock changes. */
const UTC = { timeZone: "UTC", dst: { overlap: "first", gap: "shift" } } as const;

/** Sends one message for each usage shard with work, then one for the legacy lanes; closes the months that are due. */
export const dailyReconciliation: ServiceJob = {
  id: "daily_reconciliation",
  name: { en: "Daily reconciliation", es: "Reconciliación diaria" },
  description: "Books the recorded uses into the ledger, drains the legacy lanes, closes months.",
  schedule: "RECONCILIATION_SCHEDULE_DAILY",
  ...UTC,
  overlap: "skip",
  catchUp: "once",
  latestStartMs: 20 * HOUR_MS,
  timeoutMs: 8 * MINUTE_MS,
  attempts: 6,
  isCritical: true,
  work: async (services, run) => {
    await dispatchShards(services, run);
    await dispatchLegacy(services, run);
    await closeDuePeriods(services, run);
    return {};
  },
};

/** Sends one message for each shard with counters. */
export const weeklyConsolidation: ServiceJob = {
  id: "weekly_consolidation",
  name: { en: "Weekly consolidation", es: "Consolidación semanal" },
  description: "Compares the counters with the ledger and corrects what is apart.",
  schedule: "RECONCILIATION_SCHEDULE_WEEKLY",
  ...UTC,
  overlap: "skip",
  catchUp: "once",
  latestStartMs: 72 * HOUR_MS,
  timeoutMs: 8 * MINUTE_MS,
  attempts: 6,
  isCritical: true,
  work: async (services, run) => {
    await dispatchConsolidation(services, { trigger: "timer", apply: true }, run);
    return {};
  },
};

/** Starts the audit of the month before, and the dropping of old events. */
export const monthlyAudit: ServiceJob = {
  id: "monthly_audit",
  name: { en: "Monthly audit", es: "Auditoría mensual" },
  description: "Audits the month before row by row, and drops events beyond their retention.",
  schedule: "RECONCILIATION_SCHEDULE_MONTHLY",
  ...UTC,
  overlap: "skip",
  catchUp: "once",
  latestStartMs: 14 * 24 * HOUR_MS,
  timeoutMs: 8 * MINUTE_MS,
  attempts: 6,
  isCritical: true,
  work: async (services, run) => {
    await startMonthlyAudit(services, run);
    return {};
  },
};

/** A missed minute only widens the window. */
export const observeUsage: ServiceJob = {
  id: "observe_usage",
  name: { en: "Usage observer", es: "Observador de uso" },
  description:
    "Remembers outside Redis how far every usage log is, so that a loss can be quantified.",
  schedule: "USAGE_OBSERVE_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "skip",
  latestStartMs: 2 * MINUTE_MS,
  timeoutMs: MINUTE_MS,
  isCritical: false,
  work: async (services, run) => {
    await observeShards(services, run);
    return {};
  },
};

export const usageAlerts: ServiceJob = {
  id: "usage_alerts",
  name: { en: "Usage alerts", es: "Alertas de uso" },
  description: "Reports what is wrong with usage and resolves what is over.",
  schedule: "USAGE_ALERT_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "skip",
  latestStartMs: 5 * MINUTE_MS,
  timeoutMs: 2 * MINUTE_MS,
  isCritical: false,
  work: async (services, run) => {
    await raiseUsageAlerts(services, run);
    return {};
  },
};

/** Every scheduled job. Each has a timer function of its own, which only ticks; a test compares the two. */
export const JOBS: readonly ServiceJob[] = [
  dailyReconciliation,
  weeklyConsolidation,
  monthlyAudit,
  observeUsage,
  usageAlerts,
];

/** What everybody knows about them. */
export const JOB_SPECS: readonly JobSpec<ScheduleSetting>[] = JOBS;
