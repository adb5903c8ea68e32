import { randomUUID } from "node:crypto";
import type { Config } from "./config.ts";
import { JOB_SPECS } from "./jobs.ts";
import { documentQueueOf } from "./lib/documents/document-queue.ts";
import { documentServices } from "./lib/documents/document-services.supabase.ts";
import { embedderOf } from "./lib/documents/embed/embedder-of.ts";
import { azureObjects } from "./lib/documents/stored-objects.storage.ts";
import type { JobRun } from "./lib/jobs/job.ts";
import { jobApiServices } from "./lib/jobs/job-api-services.supabase.ts";
import { jobQueue } from "./lib/jobs/job-queue.storage.ts";
import { jobServices } from "./lib/jobs/job-services.supabase.ts";
import { rowCleaner } from "./lib/jobs/work/cleanup.supabase.ts";
import type { CleanupConfig } from "./lib/jobs/work/cleanup.ts";
import { type Clock, systemClock } from "./lib/kernel/clock.ts";
import { invariant } from "./lib/kernel/errors.ts";
import { alertLedger, incidents } from "./lib/ops/alerts.supabase.ts";
import { createAlerts } from "./lib/ops/alerts.ts";
import { auditLog } from "./lib/ops/audit-log.supabase.ts";
import { cachedHealth } from "./lib/ops/cached-health.ts";
import type { WatchedJob } from "./lib/ops/classify-scheduler.ts";
import { removeExpiredExports, removeOrphanBlobs } from "./lib/ops/exports-cleanup.ts";
import { noticeChannels } from "./lib/ops/notice-channels.ts";
import { opsServices } from "./lib/ops/ops-services.supabase.ts";
import { probeBackends } from "./lib/ops/probe-backends.ts";
import { cacheProbe } from "./lib/ops/probes.redis.ts";
import { databaseProbe } from "./lib/ops/probes.supabase.ts";
import { queuePeeks } from "./lib/ops/queue-backlog.storage.ts";
import { statusServices } from "./lib/ops/status-services.supabase.ts";
import { type QueueServices, queueServices } from "./lib/queue/queue-services.supabase.ts";
import { workSender } from "./lib/queue/work-sender.storage.ts";
import { createBlobStore } from "./lib/runtime/blob-store.storage.ts";
import { connectRedis } from "./lib/runtime/connect.redis.ts";
import { invocationLogger } from "./lib/runtime/current-run.ts";
import { entraTokens } from "./lib/runtime/entra-tokens.ts";
import { redact } from "./lib/runtime/logger.ts";
import { createQueueSender, type QueueSender } from "./lib/runtime/queue-sender.storage.ts";
import { createRpc, type Rpc } from "./lib/runtime/rpc.supabase.ts";
import { startLogger } from "./lib/runtime/start-logger.ts";
import {
  auditLedger,
  auditStarts,
  eventPruner,
  periodLedger,
} from "./lib/usage/audit-ledger.supabase.ts";
import { auditQueue } from "./lib/usage/audit-queue.storage.ts";
import { auditReads } from "./lib/usage/audit-reads.supabase.ts";
import { shardCounters } from "./lib/usage/consolidate-counters.redis.ts";
import { consolidationLedger } from "./lib/usage/consolidate-ledger.supabase.ts";
import { consolidationQueue } from "./lib/usage/consolidate-queue.storage.ts";
import { legacyConfigOf } from "./lib/usage/legacy/legacy-config.ts";
import { legacyCounters, pendingSet } from "./lib/usage/legacy/legacy-lanes.redis.ts";
import {
  counterLedger,
  legacyRuns,
  pendingLedger,
} from "./lib/usage/legacy/legacy-ledger.supabase.ts";
import { legacyQueue } from "./lib/usage/legacy/legacy-queue.storage.ts";
import { legacyReads } from "./lib/usage/legacy/legacy-reads.supabase.ts";
import { logWitness } from "./lib/usage/observe-shards.redis.ts";
import { observations } from "./lib/usage/observe-shards.supabase.ts";
import { quarantineLedger } from "./lib/usage/quarantine.supabase.ts";
import { shardQueue } from "./lib/usage/shard-queue.storage.ts";
import { usageFacts } from "./lib/usage/usage-alerts.supabase.ts";
import { driftLedger } from "./lib/usage/usage-drifts.supabase.ts";
import { usageExplainLedger } from "./lib/usage/usage-explain.supabase.ts";
import { runLedger, shardReports, usageLedger } from "./lib/usage/usage-ledger.supabase.ts";
import { usageCounters, usageLog, usageTail } from "./lib/usage/usage-log.redis.ts";
import { createUsageProducer } from "./lib/usage/usage-producer.ts";
import { usageReads } from "./lib/usage/usage-reads.supabase.ts";
import { STORAGE_QUEUES, WORK_SPECS } from "./queues.ts";

export type Services = ReturnType<typeof createServices>;

/** Of calls that read whole months: longer than the 120 s their statements may take. */
const SLOW_CALL_MS = 125_000;

/** Of this process, as other copies of the service see it. */
const INSTANCE_ID = randomUUID();

/** Builds the record and touches no network: adapters connect on first use. */
export function createServices(config: Config, clock = systemClock) {
  const redis = connectRedis(config.redis);
  const { rpc, close: closeRpc } = createRpc(config.supabase);
  const slow = createRpc({ ...config.supabase, timeoutMs: SLOW_CALL_MS });
  const sender = createQueueSender(config.storage);
  const log = usageLog(redis);
  const probes = { ...cacheProbe(redis), ...databaseProbe(rpc) };
  const watchedJobs = watchedJobsOf(config);
  const wakeups = workSender(sender, WORK_SPECS, invocationLogger);
  const queue = queueServices({ rpc, sender: wakeups, specs: WORK_SPECS });
  const health = cachedHealth(clock, () => probeBackends({ clock, probes, watchedJobs }));
  const jobs = jobsOf(config, { rpc, sender }, clock);
  return {
    config,
    clock,
    admission: admissionOf(config, clock),
    alerts: createAlerts({ clock, alertLedger: alertLedger(rpc), log: invocationLogger }),
    incidents: incidents(rpc),
    auditLog: auditLog(rpc),
    serviceName: config.serviceName,
    usageConfig: config.usage,
    usageLog: log,
    shardHeads: log,
    usageCounters: usageCounters(redis),
    usageTail: usageTail(redis),
    usageExplainLedger: usageExplainLedger(rpc),
    usageLedger: usageLedger(rpc),
    runLedger: runLedger(rpc),
    logWitness: logWitness(redis),
    observations: observations(rpc),
    shardCounters: shardCounters(redis),
    consolidationLedger: consolidationLedger(rpc),
    consolidationQueue: consolidationQueue(sender),
    driftLedger: driftLedger(rpc),
    shardReports: shardReports(rpc),
    usageReads: usageReads(rpc),
    quarantineLedger: quarantineLedger(rpc),
    shardQueue: shardQueue(sender),
    periodLedger: periodLedger(slow.rpc),
    auditStarts: auditStarts(rpc),
    auditLedger: auditLedger(slow.rpc),
    auditReads: auditReads(rpc),
    auditQueue: auditQueue(sender),
    eventPruner: eventPruner(slow.rpc),
    usageFacts: usageFacts(slow.rpc),
    ...queue,
    ...jobs,
    ...documentsOf(config, rpc, queue),
    ...operationsOf(config, { rpc, slow: slow.rpc, sender }),
    ...legacyUsageOf(config, redis, { rpc, sender }),
    usageProducer: createUsageProducer({ redis, clock, isEnabled: config.usage.isTrackingEnabled }),
    health,
    ...statusServices({ ...jobs, rpc, clock, health }),
    /** In the reverse order of what may still need what. */
    close: async () => {
      await queue.stopWork();
      await slow.close();
      await closeRpc();
      await redis.close();
    },
  } as const;
}

interface Connections {
  readonly rpc: Rpc;
  readonly slow: Rpc;
  readonly sender: QueueSender;
}

/** Scheduled jobs: the ledger that runs them, and what people see of them. */
function jobsOf(config: Config, { rpc, sender }: Omit<Connections, "slow">, clock: Clock) {
  const { schedules } = config;
  return {
    ...jobServices(rpc),
    ...jobApiServices({ rpc, clock, specs: JOB_SPECS, schedules }),
    jobQueue: jobQueue(sender),
    jobSpecs: JOB_SPECS,
    jobSchedules: schedules,
    instance: INSTANCE_ID,
    leaseMs: config.jobs.leaseMs,
  };
}

function legacyUsageOf(
  config: Config,
  redis: ReturnType<typeof connectRedis>,
  { rpc, sender }: Omit<Connections, "slow">,
) {
  const legacyConfig = legacyConfigOf(config);
  return {
    legacyConfig,
    pendingSet: pendingSet(redis, legacyConfig.pendingKey ?? ""), // not called while the lane is off
    pendingLedger: pendingLedger(rpc),
    legacyCounters: legacyCounters(redis),
    counterLedger: counterLedger(rpc),
    legacyRuns: legacyRuns(rpc),
    legacyReads: legacyReads(rpc),
    legacyQueue: legacyQueue(sender),
  };
}

/** A few of them are in memory at a time; 50,000 make a file. */
const EXPORT_PART_BYTES = 512 * 1024;

/** What the service does for its operators: notices, reports, exports, canaries, cleaning up. */
function operationsOf(config: Config, { rpc, slow, sender }: Connections) {
  const { serviceName, environment, storage, ops } = config;
  const exports = createBlobStore({
    ...storage,
    container: ops.exports.container,
    partBytes: EXPORT_PART_BYTES,
  });
  const text = { serviceName, environment, docsUrl: ops.docsUrl, redact };
  const services = opsServices(rpc, slow);
  const cleaning = { expiredExports: services.expiredExports, exportBlobs: exports };
  return {
    ...services,
    ...noticeChannels(ops, text, invocationLogger),
    environment,
    exportConfig: { format: ops.exports.format },
    exportStore: exports,
    exportLinks: exports,
    queuePeeks: queuePeeks(storage),
    backlogConfig: { queues: STORAGE_QUEUES, ageWarnSeconds: ops.queueAgeWarnSeconds },
    canarySender: sender,
    canaryConfig: { queues: STORAGE_QUEUES, everyMinutes: ops.canaryMinutes },
    cleanupConfig: { retainDays: retentionOf(ops.retainDays), runsKept: ops.runsKept },
    rowCleaner: rowCleaner(rpc),
    exportCleaner: {
      removeExpired: (bound: Bound, run: JobRun) => removeExpiredExports(cleaning, bound, run),
      removeOrphans: (bound: Bound, run: JobRun) => removeOrphanBlobs(cleaning, bound, run),
    },
  };
}

interface Bound {
  readonly before: number;
  readonly limit: number;
}

/** Copies of the service that are gone, and canaries that came back, are of no use after a day. */
const retentionOf = (days: Config["ops"]["retainDays"]): CleanupConfig["retainDays"] => ({
  job_runs: days.runs,
  work_items: days.work,
  dead_items: days.deadWork,
  work_replays: days.deadWork,
  alerts: days.alerts,
  alert_messages: days.alerts,
  reports: days.reports,
  exports: days.exports,
  instances: 1,
  canaries: 1,
});

const documentsOf = (config: Config, rpc: Rpc, queue: QueueServices) =>
  documentServices({
    rpc,
    embedder: embedderOf(config.embedder, systemClock),
    documentQueue: documentQueueOf(queue),
    documents: config.documents,
    azure: azureObjects(config.storage.connectionString),
    supabase: config.supabase,
  });

function admissionOf({ http: { entra, ...http } }: Config, clock: Clock) {
  return entra === undefined ? http : { ...http, tokens: entraTokens({ ...entra, clock }) };
}

/** The scheduler is judged by the slots of all jobs. */
const watchedJobsOf = ({ schedules }: Config): WatchedJob[] =>
  JOB_SPECS.map(({ id, schedule, isCritical }) => ({
    id,
    schedule: schedules[schedule],
    isCritical,
  }));

const CLOSE_DEADLINE_MS = 3000;

let config: Config | undefined;
let built: Services | undefined;

/**
 * Called once, by the entry, after every function is registered. Warns of what an operator should know from the first
 * line on: settings that look like ours and are none, and a service that does not count.
 */
export function configure(loaded: Config, unknownSettings: readonly string[]): void {
  config = loaded;
  const log = startLogger();
  for (const setting of unknownSettings) log.warn("setting_unknown", { setting });
  if (!loaded.usage.isTrackingEnabled)
    log.warn("usage_tracking_disabled", { setting: "ENABLE_USAGE_TRACKING" });
}

/** The services of this process; only handlers call it, never code that runs while a file loads. */
export function services(): Services {
  invariant(config !== undefined, "the entry configures before a handler runs");
  built ??= createServices(config);
  return built;
}

/** At the start of each invocation of any function. */
export const noteInvocation = (): void => services().heartbeat.beat();

/** Closes what was built, within the 5 s that the host gives. */
export async function closeServices(): Promise<void> {
  const closing = built?.close();
  built = undefined;
  const deadline = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_DEADLINE_MS).unref());
  await Promise.race([closing, deadline]);
}
