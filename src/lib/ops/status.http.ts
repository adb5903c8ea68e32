import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { createRoutes, json, needsRole, type WebEnv } from "../runtime/routes.http.ts";
import { microseconds } from "./instants.ts";
import { overallStatus } from "./probes.http.ts";
import type { StatusView } from "./status.ts";
import { statusMetrics } from "./status-body.ts";

export interface StatusHttpDeps {
  readonly status: { read(): Promise<StatusView> };
  readonly serviceName: string;
}

const Component = z.enum(["available", "degraded", "unavailable"]);
const Instant = z.string().openapi({ example: "2026-11-24T10:30:45.123000Z" });
const Share = z.number().min(0).max(100);
const Count = z.int().min(0);
const Amount = z.object({ total_gb: z.number(), used_gb: z.number(), percent: Share });

const JobHealth = z.object({
  status: z.enum(["healthy", "degraded", "unhealthy", "unknown"]),
  is_active: z.boolean(),
  is_critical: z.boolean(),
  error_count: Count.nullable(),
  success_count: Count.nullable(),
  last_execution: z.object({ timestamp: Instant, time_ago_seconds: Count }).nullable(),
  next_execution: Instant.nullable(),
});

const JobsAnalysis = z.object({
  total_jobs: Count,
  active_jobs: Count,
  paused_jobs: Count,
  critical_jobs: Count,
  jobs_with_errors: Count,
  avg_execution_times: z.record(z.string(), z.number()).describe("Seconds, by job."),
  error_rates: z
    .record(z.string(), z.number())
    .describe("0 to 1; jobs without errors are left out."),
  job_health: z.record(z.string(), JobHealth),
});

const ScheduledJob = z.object({
  id: z.string(),
  name: z.string(),
  next_run_time: Instant.nullable(),
  trigger: z.string().openapi({ example: "cron[0 2 * * *]" }),
  misfire_grace_time: Count.describe("Seconds that a run may start late."),
  max_instances: Count,
  executor: z.literal("default"),
  avg_execution_time: z.number().nullable().describe("Seconds."),
  min_execution_time: z.number().nullable(),
  max_execution_time: z.number().nullable(),
  error_count: Count.nullable(),
  success_count: Count.nullable(),
});

const SystemResources = z
  .object({
    cpu: z.object({ percent: Share, count: Count }).nullable(),
    memory: Amount.nullable(),
    disk: Amount.nullable(),
    network: z
      .object({
        bytes_sent_mb: z.number(),
        bytes_recv_mb: z.number(),
        packets_sent: Count,
        packets_recv: Count,
      })
      .nullable(),
    process: z
      .object({
        memory_mb: z.number(),
        cpu_percent: z.number(),
        threads: Count,
        open_files: Count,
      })
      .nullable(),
  })
  .describe("Of the instance that answers, within the limits of its container.");

export const StatusSchema = z
  .object({
    status: Component,
    components: z.object({ cache: Component, database: Component, scheduler: Component }),
    metrics: z.object({
      service_type: z.literal("worker"),
      uptime_seconds: Count.describe("Since when at least one instance runs without a break."),
      uptime_formatted: z.string().openapi({ example: "1d 0h 0m" }),
      instances: Count.nullable().describe("Seen in the last five minutes."),
      scheduler_status: z.object({ running: z.boolean(), timezone: z.literal("UTC") }),
      jobs_analysis: JobsAnalysis,
      scheduled_jobs: z.array(ScheduledJob),
      system_resources: SystemResources,
    }),
    degraded_sections: z
      .array(z.string())
      .describe("What did not answer in time: null, or as it was last known."),
    timestamp: Instant,
    service: z.string(),
  })
  .openapi("Status");

const status = createRoute({
  method: "get",
  path: "/status",
  summary: "The whole service: components, jobs, resources",
  security: needsRole("viewer"),
  responses: { 200: json("Always, within 300 ms: what is missing is named.", StatusSchema) },
});

/** The detailed status. It tells, and never fails: that is what `/health` is for. */
export const statusRoutes = (deps: () => StatusHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes().openapi(status, async (c) => {
    const { status: reader, serviceName } = deps();
    const view = await reader.read();
    const body = {
      status: overallStatus(view.components),
      components: view.components,
      metrics: statusMetrics(view),
      degraded_sections: [...view.degraded],
      timestamp: microseconds(view.at),
      service: serviceName,
    };
    return c.json(body, 200);
  });
