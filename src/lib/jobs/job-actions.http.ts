import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import {
  type Caller,
  createRoutes,
  json,
  needsRole,
  problem,
  type WebEnv,
} from "../runtime/routes.http.ts";
import type { JobChange, JobControl, JobFacts, JobLedger, JobQueue } from "./job-ledger.ts";
import type { CatalogJob } from "./job-view.ts";
import { findJob } from "./jobs.http.ts";

const REASON_CHARACTERS_MAX = 500;

export interface JobActionsHttpDeps {
  readonly jobCatalog: readonly CatalogJob[];
  readonly jobLedger: Pick<JobLedger, "sync">;
  readonly jobControl: JobControl;
  readonly jobQueue: JobQueue;
}

const Id = z.string().min(1).max(100).openapi({ example: "daily_reconciliation" });
const RunId = z.uuid("must be the id of a run");
const body = {
  required: true,
  content: {
    "application/json": {
      schema: z.strictObject({
        reason: z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX),
      }),
    },
  },
};
const unknownJob = problem("No such job; `detail` lists the ids.");

const Switched = z
  .object({
    outcome: z.enum(["enabled", "already_enabled", "disabled", "already_disabled"]),
    jobId: z.string(),
    isEnabled: z.boolean(),
    disabledAt: z.string().nullable(),
    disabledBy: z.string().nullable(),
    disabledReason: z.string().nullable(),
  })
  .openapi("JobSwitched");

const switchRoute = <P extends string>(path: P, summary: string) =>
  createRoute({
    method: "post",
    path,
    summary,
    security: needsRole("operator"),
    request: { params: z.object({ id: Id }), body },
    responses: {
      200: json("What already was so stays so, and `outcome` says it.", Switched),
      404: unknownJob,
    },
  });

const enable = switchRoute(
  "/cron/jobs/{id}/enable",
  "Let a job run at its slots again, at once on every instance",
);
const disable = switchRoute(
  "/cron/jobs/{id}/disable",
  "Skip the slots of a job from now on, at once on every instance; a run that works goes on",
);

const runNow = createRoute({
  method: "post",
  path: "/cron/jobs/{id}/run",
  summary: "Run a job now, enabled or not; one Idempotency-Key is one run",
  security: needsRole("operator"),
  request: {
    params: z.object({ id: Id }),
    headers: z.object({
      "idempotency-key": z.string().trim().min(1).max(200).optional(),
    }),
    body,
  },
  responses: {
    202: {
      ...json(
        "It starts within seconds; `Location` is where to look.",
        z
          .object({
            outcome: z.enum(["started", "known"]).describe("`known`: the key was used before."),
            jobId: z.string(),
            runId: z.string(),
            status: z.string(),
          })
          .openapi("JobStarted"),
      ),
      headers: z.object({ location: z.string() }),
    },
    404: unknownJob,
    409: problem("A run of this job works or waits, and it does not overlap; `detail` names it."),
  },
});

const cancel = createRoute({
  method: "post",
  path: "/cron/jobs/{id}/runs/{runId}/cancel",
  summary: "Stop a run: one that waits at once, one that works at its next heartbeat",
  security: needsRole("operator"),
  request: { params: z.object({ id: Id, runId: RunId }), body },
  responses: {
    200: json(
      "The first request stands.",
      z
        .object({
          outcome: z.enum(["cancelled", "requested", "already_requested"]),
          status: z.string(),
        })
        .openapi("JobCancelled"),
    ),
    404: problem("No such job, or no such run of it."),
    409: problem("The run ended before."),
  },
});

/** Changes to scheduled jobs by people. Each is audited in the transaction that makes it. */
export const jobActionRoutes = (deps: () => JobActionsHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(enable, async (c) => {
      const change = changeOf(c.var.caller, c.env.run, c.req.valid("json"));
      return c.json(await switchJob(deps(), c.req.valid("param").id, true, change, c.env.run), 200);
    })
    .openapi(disable, async (c) => {
      const change = changeOf(c.var.caller, c.env.run, c.req.valid("json"));
      return c.json(
        await switchJob(deps(), c.req.valid("param").id, false, change, c.env.run),
        200,
      );
    })
    .openapi(runNow, async (c) => {
      const { id } = c.req.valid("param");
      const key = c.req.valid("header")["idempotency-key"];
      const change = changeOf(c.var.caller, c.env.run, c.req.valid("json"));
      const started = await startJob(deps(), id, key, change, c.env.run);
      c.header("location", `/cron/jobs/${id}/runs/${started.runId}`);
      return c.json(started, 202);
    })
    .openapi(cancel, async (c) => {
      const { id, runId } = c.req.valid("param");
      const { jobCatalog, jobControl } = deps();
      const change = changeOf(c.var.caller, c.env.run, c.req.valid("json"));
      const job = findJob(jobCatalog, id);
      const reply = await jobControl.requestCancel(job.id, runId, change, c.env.run.signal);
      c.env.run.note({ jobId: job.id, jobRunId: runId, outcome: reply.kind });
      if (reply.kind === "unknown") throw permanent("job_run_unknown");
      const { kind, status } = reply;
      if (kind === "ended") throw permanent("job_run_ended", { reason: `it is ${status}` });
      return c.json(
        { outcome: kind === "already" ? "already_requested" : kind, status } as const,
        200,
      );
    });

const changeOf = (caller: Caller, run: Run, { reason }: { reason: string }): JobChange => ({
  who: caller.name,
  reason,
  requestId: run.id,
});

async function switchJob(
  { jobCatalog, jobLedger, jobControl }: JobActionsHttpDeps,
  id: string,
  isEnabled: boolean,
  change: JobChange,
  run: Run,
) {
  const job = findJob(jobCatalog, id);
  await jobLedger.sync([factsOf(job)], false, run.signal);
  const reply = await jobControl.setEnabled(job.id, isEnabled, change, run.signal);
  const state = isEnabled ? ("enabled" as const) : ("disabled" as const);
  const outcome = reply.kind === "changed" ? state : (`already_${state}` as const);
  run.note({ jobId: job.id, outcome });
  return {
    outcome,
    jobId: job.id,
    isEnabled: reply.isEnabled,
    disabledAt: reply.disabledAt ?? null,
    disabledBy: reply.disabledBy ?? null,
    disabledReason: reply.disabledReason ?? null,
  };
}

/** The row is written first: a message that is lost is sent again by the supervisor. */
async function startJob(
  { jobCatalog, jobLedger, jobControl, jobQueue }: JobActionsHttpDeps,
  id: string,
  key: string | undefined,
  change: JobChange,
  run: Run,
) {
  const job = findJob(jobCatalog, id);
  await jobLedger.sync([factsOf(job)], false, run.signal);
  const reply = await jobControl.startManual(job.id, key, change, run.signal);
  const { kind, runId } = reply;
  run.note({ jobId: job.id, jobRunId: runId, outcome: kind });
  if (kind === "busy") throw permanent("job_busy", { reason: `run ${runId} is ${reply.status}` });
  if (kind === "known") return { outcome: kind, jobId: job.id, runId, status: reply.status };
  await jobQueue.send({ v: 1, job: job.id, run: runId }, 0, run.signal).catch((error: unknown) => {
    run.log.warn("job_message_not_sent", { jobId: job.id, jobRunId: runId, error });
  });
  return { outcome: kind, jobId: job.id, runId, status: "queued" };
}

/** The ledger may not have heard of a job before the first tick of a new version. */
const factsOf = (job: CatalogJob): JobFacts => ({
  id: job.id,
  schedule: job.schedule,
  timeZone: job.timeZone,
  overlap: job.overlap,
  catchUp: job.catchUp,
  latestStartMs: job.latestStartMs,
  timeoutMs: job.timeoutMs,
  attemptsMax: job.attempts ?? 1,
  isCritical: job.isCritical,
});
