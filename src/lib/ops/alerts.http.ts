import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Clock } from "../kernel/clock.ts";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { IncidentSchema, type Incidents } from "./alerts.supabase.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
const REASON_CHARACTERS_MAX = 500;

export interface AlertsHttpDeps {
  readonly clock: Clock;
  readonly incidents: Incidents;
}

const Id = z.string().regex(/^\d{1,18}$/, "must be the id of an alert");

const list = createRoute({
  method: "get",
  path: "/alerts",
  summary: "What an operator should know: incidents, newest first",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      state: z.enum(["open", "firing", "acknowledged", "resolved", "all"]).default("open"),
      level: z.enum(["info", "warning", "critical"]).optional(),
      kind: z
        .string()
        .regex(/^[a-z0-9_]{1,100}$/, "must be a kind such as usage_drift")
        .optional(),
      before: Id.optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({ rows: z.array(IncidentSchema.openapi("Alert")), next: z.string().nullable() }),
    ),
  },
});

const Acknowledgement = z
  .object({
    outcome: z.enum(["acknowledged", "already_acknowledged"]),
    acknowledgedBy: z.string(),
    acknowledgedAt: z.string(),
  })
  .openapi("AlertAcknowledgement");

const acknowledge = createRoute({
  method: "post",
  path: "/alerts/{id}/acknowledge",
  summary: "Take care of an incident: no reminders until it gets worse",
  security: needsRole("operator"),
  request: {
    params: z.object({ id: Id }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            reason: z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX),
          }),
        },
      },
    },
  },
  responses: {
    200: json("The first one stands; `acknowledgedBy` says whose.", Acknowledgement),
    404: problem("No such alert."),
    409: problem("It is over already."),
  },
});

/** Routes to see incidents and to take care of them. */
export const alertRoutes = (deps: () => AlertsHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const page = await deps().incidents.list(c.req.valid("query"), c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(acknowledge, async (c) => {
      const { id } = c.req.valid("param");
      const decision = { who: c.var.caller.name, reason: c.req.valid("json").reason };
      const { clock, incidents } = deps();
      const reply = await incidents.acknowledge(id, decision, clock.now(), c.env.run.signal);
      c.env.run.note({ alertId: id, acknowledged: reply.status });
      if (reply.status === "unknown") throw permanent("alert_unknown");
      if (reply.status === "resolved") throw permanent("alert_resolved");
      const outcome = reply.status === "already" ? "already_acknowledged" : "acknowledged";
      const { who, at } = reply;
      return c.json({ outcome, acknowledgedBy: who ?? "", acknowledgedAt: at ?? "" } as const, 200);
    });
