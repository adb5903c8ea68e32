import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { dispatchConsolidation } from "./consolidate-dispatch.ts";
import { DriftSchema } from "./usage-drifts.supabase.ts";
import { approveRun, type DriftDeps, decideDrift } from "./usage-drifts.ts";
import { SHARD_COUNT } from "./usage-keys.ts";
import { PeriodQuery } from "./usage-period.http.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
const REASON_CHARACTERS_MAX = 500;

const STATES = [
  "open",
  "found",
  "planned",
  "repaired",
  "superseded",
  "hold_for_approval",
  "wait_for_quarantine",
  "approved",
  "rejected",
] as const;
const CAUSES = [
  "redis_key_missing",
  "redis_behind",
  "redis_ahead",
  "redis_unreadable",
  "entry_lost_before_apply",
  "quarantined",
  "total_edited",
] as const;

const Id = z.string().regex(/^\d{1,18}$/, "must be the id of a difference");
const Reason = z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX);
const Drift = z.object(DriftSchema.shape).openapi("UsageDrift");
const RunId = z.string().nullable().describe("The run that acts on it; null = nothing to do.");

const list = createRoute({
  method: "get",
  path: "/usage/drift",
  summary: "Differences between counters and ledger, newest first, with cause, evidence and repair",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      period: PeriodQuery,
      tenant: z.string().min(1).max(200).optional(),
      state: z.enum(STATES).optional().openapi({ description: "`open` = waits for somebody" }),
      cause: z.enum(CAUSES).optional(),
      run: z.uuid().optional().openapi({ description: "Found or last seen by this run" }),
      before: Id.optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({ rows: z.array(Drift), next: z.string().nullable() }),
    ),
  },
});

const approve = createRoute({
  method: "post",
  path: "/usage/drift/{id}/approve",
  summary: "Approve the repair of a difference that is held; it is done at once, exactly once",
  security: needsRole("operator"),
  request: {
    params: z.object({ id: Id }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            reason: Reason,
            repair: z
              .enum(["counter", "ledger", "total"])
              .optional()
              .openapi({
                description:
                  "`counter`: the ledger is right. `ledger`: the counter is right, the difference is booked. " +
                  "`total`: the total becomes the sum of the ledger. Default: as proposed.",
              }),
          }),
        },
      },
    },
  },
  responses: {
    200: json("Written down, and under way.", z.object({ drift: Drift, runId: RunId })),
    404: problem("No such difference."),
    409: problem("It is not held, or cannot be repaired that way."),
  },
});

const reject = createRoute({
  method: "post",
  path: "/usage/drift/{id}/reject",
  summary: "Leave a difference as it is, for as long as it stays the same",
  security: needsRole("operator"),
  request: {
    params: z.object({ id: Id }),
    body: {
      required: true,
      content: { "application/json": { schema: z.strictObject({ reason: Reason }) } },
    },
  },
  responses: {
    200: json("Written down.", z.object({ drift: Drift, runId: RunId })),
    404: problem("No such difference."),
    409: problem("It is not held."),
  },
});

const approveAll = createRoute({
  method: "post",
  path: "/usage/drift/approve",
  summary: "Approve, as proposed, everything of a run that is held",
  security: needsRole("operator"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            run: z.uuid(),
            cause: z.enum(CAUSES).optional(),
            reason: Reason,
          }),
        },
      },
    },
  },
  responses: {
    200: json("How many were approved.", z.object({ approved: z.int(), runId: RunId })),
  },
});

const consolidate = createRoute({
  method: "post",
  path: "/usage-consolidations",
  summary: "Compare counters and ledger now; `apply: false` only writes down what differs",
  security: needsRole("operator"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            apply: z.boolean().default(true),
            shards: z
              .array(
                z
                  .int()
                  .min(0)
                  .max(SHARD_COUNT - 1),
              )
              .min(1)
              .max(SHARD_COUNT)
              .optional()
              .openapi({ description: "Default: every shard with counters" }),
          }),
        },
      },
    },
  },
  responses: {
    202: json(
      "The run; see `/usage-runs/{runId}`.",
      z.object({ runId: z.string(), shards: z.int() }),
    ),
  },
});

/** Routes to see and decide about differences. Mount them before `/usage/{tenant}`, which would take `drift` for one. */
export const driftRoutes = (deps: () => DriftDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const page = await deps().driftLedger.list(c.req.valid("query"), c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(approveAll, async (c) => {
      const approval = { ...c.req.valid("json"), who: c.var.caller.name };
      return c.json(await approveRun(deps(), approval, c.env.run), 200);
    })
    .openapi(approve, async (c) => {
      const verdict = {
        ...c.req.valid("json"),
        decision: "approved",
        who: c.var.caller.name,
      } as const;
      return c.json(await decideDrift(deps(), c.req.valid("param").id, verdict, c.env.run), 200);
    })
    .openapi(reject, async (c) => {
      const verdict = {
        ...c.req.valid("json"),
        decision: "rejected",
        who: c.var.caller.name,
      } as const;
      return c.json(await decideDrift(deps(), c.req.valid("param").id, verdict, c.env.run), 200);
    })
    .openapi(consolidate, async (c) => {
      const { apply, shards } = c.req.valid("json");
      const unique = shards === undefined ? undefined : [...new Set(shards)];
      const order = { trigger: "manual", apply, shards: unique } as const;
      return c.json(await dispatchConsolidation(deps(), order, c.env.run), 202);
    });
