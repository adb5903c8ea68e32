import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Clock } from "../kernel/clock.ts";
import { AppError, permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import {
  type JobReads,
  JobStatsSchema,
  LastRunSchema,
  type RunCursor,
  RunningSchema,
  RunSchema,
  RunStatsSchema,
  WaitingSchema,
} from "./job-reads.supabase.ts";
import { type CatalogJob, viewJob, whyFacts } from "./job-view.ts";
import { upcomingSlots } from "./plan-slots.ts";
import { RUN_STATUSES } from "./run-statuses.ts";
import { localTime } from "./slot-view.ts";
import { WHY_REASONS, whyNotRunning } from "./why-not-running.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
const UPCOMING_MAX = 100;
const UPCOMING_DEFAULT = 10;
/** Longer than a week is what reports and exports are for. */
const HOURS_MAX = 168;
const HOURS_DEFAULT = 24;

export interface JobsHttpDeps {
  readonly clock: Clock;
  readonly jobCatalog: readonly CatalogJob[];
  readonly jobReads: JobReads;
}

const Id = z.string().min(1).max(100).openapi({ example: "daily_reconciliation" });
const RunId = z.uuid("must be the id of a run");
const Instant = z.string().openapi({ example: "2026-11-24T02:00:00.000Z" });

const JobSchema = z
  .object({
    id: z.string(),
    name: z.object({ en: z.string(), es: z.string() }),
    description: z.string(),
    schedule: z.string().describe("NCRONTAB, in the time zone."),
    setting: z.string().describe("The setting that holds the schedule."),
    timeZone: z.string(),
    dst: z.object({ overlap: z.enum(["first", "last", "both"]), gap: z.enum(["shift", "skip"]) }),
    overlap: z.enum(["skip", "allow"]),
    catchUp: z.enum(["skip", "once", "all"]),
    latestStartMs: z.number(),
    timeoutMs: z.number(),
    isCritical: z.boolean(),
    isEnabled: z.boolean(),
    disabledAt: z.string().nullable(),
    disabledBy: z.string().nullable(),
    disabledReason: z.string().nullable(),
    nextSlots: z.array(Instant).describe("As planned; a disabled job skips them."),
    lastTickAt: z.string().nullable().describe("When its timer last fired, whatever came of it."),
    running: RunningSchema.nullable(),
    waiting: WaitingSchema.nullable(),
    last: LastRunSchema.nullable(),
    stats: RunStatsSchema.describe("Of its newest 500 runs."),
  })
  .openapi("Job");

const unknownJob = problem("No such job; `detail` lists the ids.");

const list = createRoute({
  method: "get",
  path: "/cron/jobs",
  summary: "All scheduled jobs: state, next slots, last run, counts",
  security: needsRole("viewer"),
  responses: { 200: json("In the order of the registry.", z.object({ jobs: z.array(JobSchema) })) },
});

const get = createRoute({
  method: "get",
  path: "/cron/jobs/{id}",
  summary: "One scheduled job",
  security: needsRole("viewer"),
  request: { params: z.object({ id: Id }) },
  responses: { 200: json("The job.", JobSchema), 404: unknownJob },
});

const runs = createRoute({
  method: "get",
  path: "/cron/jobs/{id}/runs",
  summary: "The history of a job: every planned slot and manual run, newest first",
  security: needsRole("viewer"),
  request: {
    params: z.object({ id: Id }),
    query: z.object({
      status: z.enum(RUN_STATUSES).optional(),
      cursor: z.string().max(200).optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `cursor` of the following one.",
      z.object({ rows: z.array(RunSchema.openapi("JobRun")), next: z.string().nullable() }),
    ),
    404: unknownJob,
  },
});

const run = createRoute({
  method: "get",
  path: "/cron/jobs/{id}/runs/{runId}",
  summary: "One run: attempts, progress, report, error",
  security: needsRole("viewer"),
  request: { params: z.object({ id: Id, runId: RunId }) },
  responses: {
    200: json("The run.", RunSchema),
    404: problem("No such job, or no such run of it."),
  },
});

const UpcomingSlot = z.object({
  at: Instant,
  localTime: z.string().openapi({ example: "2026-11-24T02:00:00+01:00" }),
  isClockChangeDay: z.boolean().describe("The local day has not 24 hours."),
  clockChange: z
    .enum(["repeated", "shifted"])
    .nullable()
    .describe("Its local time occurs twice that day, or not at all and moved behind the gap."),
});

const upcoming = createRoute({
  method: "get",
  path: "/cron/jobs/{id}/upcoming",
  summary: "When a job is due next, with the days on which clocks change",
  security: needsRole("viewer"),
  request: {
    params: z.object({ id: Id }),
    query: z.object({
      count: z.coerce.number().int().min(1).max(UPCOMING_MAX).default(UPCOMING_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "Slots, soonest first.",
      z.object({ timeZone: z.string(), slots: z.array(UpcomingSlot) }),
    ),
    404: unknownJob,
  },
});

const why = createRoute({
  method: "get",
  path: "/cron/jobs/{id}/why",
  summary: "Why is it not running? Exactly one answer",
  security: needsRole("viewer"),
  request: { params: z.object({ id: Id }) },
  responses: {
    200: json(
      "Also when the database does not answer: that is an answer.",
      z
        .object({
          jobId: z.string(),
          reason: z.enum(WHY_REASONS),
          text: z.string(),
          at: Instant.optional(),
          runId: z.string().optional(),
          runbook: z.string().optional(),
        })
        .openapi("JobWhy"),
    ),
    404: unknownJob,
  },
});

const stats = createRoute({
  method: "get",
  path: "/cron/stats",
  summary: "Runs, errors, rates and durations of each job in a window that ends now",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      hours: z.coerce.number().int().min(1).max(HOURS_MAX).default(HOURS_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "By job, and all together.",
      z.object({
        since: z.string(),
        until: z.string(),
        total: z.object({
          runs: z.int(),
          errors: z.int(),
          errorRate: z.number().nullable(),
          missed: z.int(),
          skipped: z.int(),
        }),
        jobs: z.array(JobStatsSchema.openapi("JobStats")),
      }),
    ),
  },
});

/** Reads about scheduled jobs and their runs. */
export const jobRoutes = (deps: () => JobsHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const { jobCatalog, jobReads, clock } = deps();
      const { jobs } = await jobReads.jobs(undefined, c.env.run.signal);
      const known = new Map(jobs.map((job) => [job.id, job]));
      const now = clock.now();
      return c.json({ jobs: jobCatalog.map((job) => viewJob(job, known.get(job.id), now)) }, 200);
    })
    .openapi(get, async (c) => {
      const { jobCatalog, jobReads, clock } = deps();
      const job = findJob(jobCatalog, c.req.valid("param").id);
      const { jobs } = await jobReads.jobs(job.id, c.env.run.signal);
      return c.json(viewJob(job, jobs[0], clock.now()), 200);
    })
    .openapi(runs, async (c) => {
      const { jobCatalog, jobReads } = deps();
      const { cursor, ...query } = c.req.valid("query");
      const job = findJob(jobCatalog, c.req.valid("param").id);
      const page = { ...query, after: cursor === undefined ? undefined : parseCursor(cursor) };
      const { rows, next } = await jobReads.runs(job.id, page, c.env.run.signal);
      return c.json({ rows, next: next === null ? null : formatCursor(next) }, 200);
    })
    .openapi(run, async (c) => {
      const { jobCatalog, jobReads } = deps();
      const { id, runId } = c.req.valid("param");
      const job = findJob(jobCatalog, id);
      const found = await jobReads.run(job.id, runId, c.env.run.signal);
      if (found === undefined) throw permanent("job_run_unknown");
      return c.json(found, 200);
    })
    .openapi(upcoming, (c) => {
      const { jobCatalog, clock } = deps();
      const job = findJob(jobCatalog, c.req.valid("param").id);
      const slots = upcomingSlots(job, clock.now(), c.req.valid("query").count);
      const view = slots.map(({ at, clockChange }) => ({
        at: new Date(at).toISOString(),
        ...localTime(job.timeZone, at),
        clockChange: clockChange ?? null,
      }));
      return c.json({ timeZone: job.timeZone, slots: view }, 200);
    })
    .openapi(why, async (c) => {
      const { jobCatalog, jobReads } = deps();
      const job = findJob(jobCatalog, c.req.valid("param").id);
      const known = await answered(jobReads.jobs(job.id, c.env.run.signal));
      const facts = known && whyFacts(job, known.jobs[0], known.now);
      return c.json({ jobId: job.id, ...whyNotRunning(facts) }, 200);
    })
    .openapi(stats, async (c) => {
      const { jobCatalog, jobReads } = deps();
      const { hours } = c.req.valid("query");
      const { now: until, since, jobs } = await jobReads.stats(hours, c.env.run.signal);
      const rows = jobs.filter(({ id }) => jobCatalog.some((job) => job.id === id));
      return c.json({ since, until, total: totalOf(rows), jobs: rows }, 200);
    });

/** @throws AppError `job_unknown`, which lists the ids. */
export function findJob(catalog: readonly CatalogJob[], id: string): CatalogJob {
  const job = catalog.find((candidate) => candidate.id === id);
  if (job !== undefined) return job;
  throw permanent("job_unknown", { reason: `known ids: ${catalog.map((it) => it.id).join(", ")}` });
}

/** That the database does not answer is an answer too; anything else is a failure. */
async function answered<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof AppError && error.code === "database_unavailable") return undefined;
    throw error;
  }
}

function totalOf(jobs: readonly z.output<typeof JobStatsSchema>[]) {
  const sum = (of: (job: (typeof jobs)[number]) => number) =>
    jobs.reduce((total, job) => total + of(job), 0);
  const all = sum((job) => job.runs);
  const errors = sum(({ failed, abandoned }) => failed + abandoned);
  return {
    runs: all,
    errors,
    errorRate: all === 0 ? null : Math.round((errors / all) * 10_000) / 10_000,
    missed: sum(({ missed }) => missed),
    skipped: sum(({ skipped }) => skipped),
  };
}

const CURSOR =
  /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?\+00:00) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

const formatCursor = ({ dueAt, id }: RunCursor): string =>
  Buffer.from(`${dueAt} ${id}`).toString("base64url");

function parseCursor(text: string): RunCursor {
  const [, dueAt, id] = CURSOR.exec(Buffer.from(text, "base64url").toString()) ?? [];
  if (dueAt !== undefined && id !== undefined && !Number.isNaN(Date.parse(dueAt)))
    return { dueAt, id };
  const faults = [{ field: "cursor", reason: "must be `next` of a page before" }];
  throw permanent("request_invalid", { faults });
}
