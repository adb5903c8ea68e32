import { microseconds } from "./instants.ts";
import type { JobRuns, JobStatus, StatusView } from "./status.ts";

const SECOND_MS = 1000;
const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

/** A job that fails more often than this is not healthy even when its last run ended well. */
const ERROR_RATE_MAX = 0.1;
const FAILED = new Set(["failed", "abandoned", "missed"]);

export type JobHealth = "healthy" | "degraded" | "unhealthy" | "unknown";

/** The metrics of the detailed status, with the names of the requirements. */
export function statusMetrics(view: StatusView) {
  const { at, components, fleet, jobs } = view;
  const uptime =
    fleet?.upSince == null ? 0 : Math.max(0, Math.floor((at - fleet.upSince) / SECOND_MS));
  const { cpu, memory, disk, network, process } = view;
  return {
    service_type: "worker" as const,
    uptime_seconds: uptime,
    uptime_formatted: formatUptime(uptime),
    instances: fleet?.instances.length ?? null,
    scheduler_status: { running: components.scheduler !== "unavailable", timezone: "UTC" as const },
    jobs_analysis: analyseJobs(jobs, at),
    scheduled_jobs: jobs.map(scheduledJob),
    system_resources: { cpu, memory, disk, network, process },
  };
}

/** Days, hours and minutes, as in `1d 0h 0m`. */
export const formatUptime = (seconds: number): string =>
  `${Math.floor(seconds / DAY_S)}d ${Math.floor((seconds % DAY_S) / HOUR_S)}h ${Math.floor((seconds % HOUR_S) / MINUTE_S)}m`;

/** Jobs whose ledger cannot be read count as active: nobody is known to have disabled them. */
function analyseJobs(jobs: readonly JobStatus[], at: number) {
  const paused = jobs.filter(({ runs }) => runs?.isActive === false).length;
  const rates = jobs.map((job) => [job.id, errorRate(job.runs)] as const);
  return {
    total_jobs: jobs.length,
    active_jobs: jobs.length - paused,
    paused_jobs: paused,
    critical_jobs: jobs.filter(({ isCritical }) => isCritical).length,
    jobs_with_errors: rates.filter(([, rate]) => rate > 0).length,
    avg_execution_times: Object.fromEntries(
      jobs.flatMap(({ id, runs }) => (runs?.avgMs == null ? [] : [[id, toSeconds(runs.avgMs)]])),
    ) as Record<string, number>,
    error_rates: Object.fromEntries(rates.filter(([, rate]) => rate > 0)) as Record<string, number>,
    job_health: Object.fromEntries(jobs.map((job) => [job.id, jobHealth(job, at)])),
  };
}

function jobHealth(job: JobStatus, at: number) {
  const { runs, isCritical, nextAt } = job;
  return {
    status: healthOf(job),
    is_active: runs?.isActive ?? true,
    is_critical: isCritical,
    error_count: runs?.failed ?? null,
    success_count: runs?.succeeded ?? null,
    last_execution: runs?.last == null ? null : execution(runs.last.at, at),
    next_execution: nextAt === undefined ? null : microseconds(nextAt),
  };
}

const execution = (startedAt: number, at: number) => ({
  timestamp: microseconds(startedAt),
  time_ago_seconds: Math.max(0, Math.floor((at - startedAt) / SECOND_MS)),
});

/** A failure of what must not fail is unhealthy; of anything else it is degraded. */
export function healthOf({ runs, isCritical }: JobStatus): JobHealth {
  if (runs === undefined) return "unknown";
  if (runs.last !== null && FAILED.has(runs.last.status))
    return isCritical ? "unhealthy" : "degraded";
  return errorRate(runs) > ERROR_RATE_MAX ? "degraded" : "healthy";
}

/** From 0 to 1, of the runs that ended either way. */
function errorRate(runs: JobRuns | undefined): number {
  const all = (runs?.failed ?? 0) + (runs?.succeeded ?? 0);
  return all === 0 ? 0 : Math.round(((runs?.failed ?? 0) / all) * 10_000) / 10_000;
}

function scheduledJob({ id, name, schedule, latestStartMs, runsMax, nextAt, runs }: JobStatus) {
  return {
    id,
    name,
    next_run_time: nextAt === undefined || runs?.isActive === false ? null : microseconds(nextAt),
    trigger: `cron[${schedule}]`,
    misfire_grace_time: Math.round(latestStartMs / SECOND_MS),
    max_instances: runsMax,
    executor: "default" as const,
    avg_execution_time: optionalSeconds(runs?.avgMs),
    min_execution_time: optionalSeconds(runs?.minMs),
    max_execution_time: optionalSeconds(runs?.maxMs),
    error_count: runs?.failed ?? null,
    success_count: runs?.succeeded ?? null,
  };
}

const optionalSeconds = (ms: number | null | undefined): number | null =>
  ms == null ? null : toSeconds(ms);

const toSeconds = (ms: number): number => Math.round(ms / 10) / 100;
