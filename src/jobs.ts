import type { ScheduleSetting } from "./config.ts";
import { sweepDocuments } from "./lib/documents/sweep-documents.ts";
import type { Job, JobSpec } from "./lib/jobs/job.ts";
import { superviseJobs } from "./lib/jobs/supervise-jobs.ts";
import { cleanUp } from "./lib/jobs/work/cleanup.ts";
import { checkHealth, type HealthPart } from "./lib/jobs/work/health-check.ts";
import { alertAboutChannels } from "./lib/ops/alert-channel-alerts.ts";
import { deliverNotices } from "./lib/ops/alert-notifications.ts";
import { flyCanaries } from "./lib/ops/canary-flights.ts";
import { exportWeek } from "./lib/ops/exports.ts";
import { lastWeek } from "./lib/ops/exports-plan.ts";
import { alertAboutHealth } from "./lib/ops/health-alerts.ts";
import { judgeBacklog } from "./lib/ops/queue-backlog.ts";
import { dayBefore, makeReport } from "./lib/ops/reports.ts";
import { judgeWorkAccounts } from "./lib/ops/work-accounting.ts";
import { sweepWork } from "./lib/queue/sweep-work.ts";
import { startMonthlyAudit } from "./lib/usage/audit-start.ts";
import { closeDuePeriods } from "./lib/usage/close-period.ts";
import { dispatchConsolidation } from "./lib/usage/consolidate-dispatch.ts";
import { dispatchShards } from "./lib/usage/dispatch-shards.ts";
import { dispatchLegacy } from "./lib/usage/legacy/dispatch-legacy.ts";
import { observeShards } from "./lib/usage/observe-shards.ts";
import { raiseUsageAlerts } from "./lib/usage/usage-alerts.ts";
import type { Services } from "./services.ts";
import { WORK } from "./work.ts";

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

/** What is looked at each minute; parts work at the same time and know nothing of each other. */
const healthParts = (services: Services): HealthPart[] => [
  { name: "probes", check: (run) => alertAboutHealth(services, run) },
  { name: "jobs", check: (run) => superviseJobs(services, run) },
  { name: "backlog", check: (run) => judgeBacklog(services, run) },
  { name: "canaries", check: (run) => flyCanaries(services, run) },
  { name: "work", check: (run) => judgeWorkAccounts(services, run) },
];

/** After them, so that what they found is told at once. */
const healthNotify = (services: Services): HealthPart[] => [
  {
    name: "notices",
    check: async (run) => {
      await alertAboutChannels(services, run.signal);
      return deliverNotices(services, run);
    },
  },
];

/** Looks at everything and tells people. Not critical: who would tell that it is silent is the platform's alert. */
export const healthCheck: ServiceJob = {
  id: "health_check",
  name: { en: "Health check", es: "Verificación de salud" },
  description:
    "Probes the backends, the jobs, the queues and the books; raises and resolves alerts; delivers notices.",
  schedule: "HEALTH_CHECK_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "skip",
  latestStartMs: 2 * MINUTE_MS,
  timeoutMs: 2 * MINUTE_MS,
  isCritical: false,
  work: (services, run) => {
    const [parts, notify] = [healthParts(services), healthNotify(services)];
    return checkHealth({ healthParts: parts, healthNotify: notify }, run);
  },
};

/** What is left is for the next hour. */
export const cleanup: ServiceJob = {
  id: "cleanup",
  name: { en: "Cleanup", es: "Limpieza" },
  description: "Deletes runs, work items, alerts, reports and exports that ended long ago.",
  schedule: "CLEANUP_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "skip",
  latestStartMs: 30 * MINUTE_MS,
  timeoutMs: 8 * MINUTE_MS,
  attempts: 2,
  isCritical: false,
  work: (services, run) => cleanUp(services, run),
};

/** The day is that of its slot: a report that is made late is still that of the day before it was due. */
export const dailyReports: ServiceJob = {
  id: "daily_reports",
  name: { en: "Daily reports", es: "Informes diarios" },
  description: "Reports on yesterday as data and as a page, and mails it.",
  schedule: "DAILY_REPORTS_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "all",
  latestStartMs: 72 * HOUR_MS,
  timeoutMs: 8 * MINUTE_MS,
  attempts: 4,
  isCritical: false,
  work: (services, run) => makeReport(services, run, dayBefore(run.slotAt ?? services.clock.now())),
};

/** A later attempt goes on with the files that are missing. */
export const weeklyExport: ServiceJob = {
  id: "weekly_export",
  name: { en: "Weekly data export", es: "Exportación semanal" },
  description: "Exports the usage and the job runs of the last week as compressed files.",
  schedule: "WEEKLY_EXPORT_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "all",
  latestStartMs: 6 * 24 * HOUR_MS,
  timeoutMs: 8 * MINUTE_MS,
  attempts: 10,
  isCritical: false,
  work: (services, run) =>
    exportWeek(services, run, {
      week: lastWeek(run.slotAt ?? services.clock.now()),
      progress: (fields) => run.progress(fields),
    }),
};

/** Keeps work items going whose message or worker was lost. Two at once do no harm, and one that died may hold up none. */
export const sweepWorkItems: ServiceJob = {
  id: "sweep_work",
  name: { en: "Work queue sweeper", es: "Barrido de la cola de trabajo" },
  description: "Recovers work items of lost workers and messages, and lets waiting tenants in.",
  schedule: "WORK_SWEEP_SCHEDULE",
  ...UTC,
  overlap: "allow",
  catchUp: "skip",
  latestStartMs: 2 * MINUTE_MS,
  timeoutMs: 2 * MINUTE_MS,
  isCritical: true,
  work: (services, run) => sweepWork(services, WORK, run),
};

/** What is left waits for the next five minutes. */
export const sweepWaitingDocuments: ServiceJob = {
  id: "sweep_documents",
  name: { en: "Document sweeper", es: "Barrido de documentos" },
  description: "Hands documents over to the queue that wait without a work item.",
  schedule: "DOCUMENT_SWEEP_SCHEDULE",
  ...UTC,
  overlap: "skip",
  catchUp: "skip",
  latestStartMs: 5 * MINUTE_MS,
  timeoutMs: 4 * MINUTE_MS,
  isCritical: false,
  work: (services, run) => sweepDocuments(services, run),
};

/** Every scheduled job. Each has a timer function of its own, which only ticks; a test compares the two. */
export const JOBS: readonly ServiceJob[] = [
  dailyReconciliation,
  weeklyConsolidation,
  monthlyAudit,
  observeUsage,
  usageAlerts,
  healthCheck,
  cleanup,
  dailyReports,
  weeklyExport,
  sweepWorkItems,
  sweepWaitingDocuments,
];

/** What everybody knows about them. */
export const JOB_SPECS: readonly JobSpec<ScheduleSetting>[] = JOBS;
