import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { type AuditReads, PeriodSchema } from "./audit-reads.supabase.ts";
import { type ClosePeriodDeps, closePeriod } from "./close-period.ts";
import { PeriodFilter, PeriodParam, periodText } from "./usage-period.http.ts";

const PERIODS_MAX = 120;
const PERIODS_DEFAULT = 24;
const REASON_CHARACTERS_MAX = 500;

export interface PeriodHttpDeps extends ClosePeriodDeps {
  readonly auditReads: AuditReads;
}

const list = createRoute({
  method: "get",
  path: "/usage/periods",
  summary: "Months that are closing or closed, newest first; a month that is not listed is open",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      before: PeriodFilter,
      limit: z.coerce.number().int().min(1).max(PERIODS_MAX).default(PERIODS_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "What holds a month that is closing, and what a closed one was.",
      z.object({
        periods: z.array(PeriodSchema.extend({ period: z.string() }).openapi("UsagePeriod")),
      }),
    ),
  },
});

const CloseBody = z.strictObject({
  reason: z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX),
  despite: z
    .array(z.enum(["grace", "open_gap", "open_quarantine"]))
    .max(3)
    .default([])
    .describe("What may not hold the month. That every log was read cannot be overruled."),
});
const Held = z.object({ reason: z.string() }).catchall(z.unknown());

const close = createRoute({
  method: "post",
  path: "/usage/periods/{period}/close",
  summary: "Close a month now; what is recorded of it afterwards is billed in a later one",
  security: needsRole("admin"),
  request: {
    params: z.object({ period: PeriodParam }),
    body: { required: true, content: { "application/json": { schema: CloseBody } } },
  },
  responses: {
    200: json(
      "It is closed, now or since earlier.",
      z.object({ period: z.string(), state: z.literal("closed"), closedAt: z.string() }),
    ),
    202: json(
      "It is closing, and closes by itself when nothing holds it any more.",
      z.object({ period: z.string(), state: z.literal("closing"), heldBy: z.array(Held) }),
    ),
    409: problem("The month is not over."),
  },
});

/** Routes to see months and to close one. */
export const periodRoutes = (deps: () => PeriodHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const rows = await deps().auditReads.periods(c.req.valid("query"), c.env.run.signal);
      const periods = rows.map((row) => ({ ...row, period: periodText(row.period) }));
      return c.json({ periods }, 200);
    })
    .openapi(close, async (c) => {
      const { period } = c.req.valid("param");
      const order = { period, who: c.var.caller.name, ...c.req.valid("json") };
      const outcome = await closePeriod(deps(), order, c.env.run);
      c.env.run.note({ period, outcome: outcome.kind });
      const text = periodText(period);
      switch (outcome.kind) {
        case "running":
          throw permanent("usage_period_running", { reason: `it ends at ${outcome.until}` });
        case "closing": {
          const heldBy = [...outcome.heldBy];
          return c.json({ period: text, state: "closing" as const, heldBy }, 202);
        }
        default:
          return c.json(
            { period: text, state: "closed", closedAt: outcome.closedAt } as const,
            200,
          );
      }
    });
