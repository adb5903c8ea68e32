import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Clock } from "../kernel/clock.ts";
import { AppError, permanent } from "../kernel/errors.ts";
import {
  createRoutes,
  json,
  needsRole,
  problem,
  requestInvalid,
  type WebEnv,
} from "../runtime/routes.http.ts";
import { explainTotal } from "./explain-total.ts";
import { periodOf } from "./usage-keys.ts";
import type { UsageCounters } from "./usage-log.redis.ts";
import { PeriodQuery } from "./usage-period.http.ts";
import type { RecordedUse, UsageProducer } from "./usage-producer.ts";
import { BookedTotalSchema, RunProgressSchema, type UsageReads } from "./usage-reads.supabase.ts";
import { TenantSchema, type UsageRecord, usageRecordSchema } from "./usage-record.ts";

/** More than this in one request is a bulk import; split it. */
const RECORDS_MAX = 500;
const RUNS_MAX = 100;
const RUNS_DEFAULT = 20;

export interface UsageHttpDeps {
  readonly clock: Clock;
  readonly usageProducer: UsageProducer;
  readonly usageReads: UsageReads;
  readonly usageCounters: UsageCounters;
}

const Outcome = z.object({
  requestId: z.string(),
  outcome: z.enum(["recorded", "duplicate"]),
  tenantTotal: z.string().describe("Tokens of the tenant in this period so far, a decimal string."),
});
const RecordResponse = z
  .object({ recorded: z.int(), duplicates: z.int(), results: z.array(Outcome) })
  .openapi("UsageRecorded");

const UsageTotal = BookedTotalSchema.extend({
  tenant: z.string(),
  period: z.string().openapi({ example: "2026-11" }),
  recorded: z
    .string()
    .nullable()
    .describe("What the counter in Redis says; null when it has none."),
  pending: z.string().nullable().describe("Recorded and not yet booked; null without a counter."),
  asOf: z.string(),
}).openapi("UsageTotal");

const recordsSchema = (nowMs: () => number) => {
  const one = usageRecordSchema(nowMs);
  const many = z.strictObject({
    records: z.array(one).min(1, "must not be empty").max(RECORDS_MAX, `at most ${RECORDS_MAX}`),
  });
  return { one, many };
};

const recordUsage = createRoute({
  method: "post",
  path: "/usage",
  summary: "Record one use, or up to 500 as {records: [...]}",
  description:
    "For producers that cannot run a Redis script. Safe to retry with the same requestId and occurredAt.",
  security: needsRole("producer"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.unknown().openapi({
            oneOf: [
              { $ref: "#/components/schemas/UsageRecord" },
              { $ref: "#/components/schemas/UsageRecords" },
            ],
          }),
        },
      },
    },
  },
  responses: {
    200: json("Every record was recorded now or earlier.", RecordResponse),
    400: problem("A field is not valid; `errors` names each."),
    503: problem(
      "Redis does not answer, or tracking is switched off. Retry with the same records.",
    ),
  },
});

const readTotal = createRoute({
  method: "get",
  path: "/usage/{tenant}",
  summary:
    "What a tenant used in a month: booked in the ledger, recorded in Redis, pending between them",
  security: needsRole("viewer"),
  request: { params: z.object({ tenant: TenantSchema }), query: z.object({ period: PeriodQuery }) },
  responses: { 200: json("The totals; amounts are decimal strings.", UsageTotal) },
});

const listRuns = createRoute({
  method: "get",
  path: "/usage-runs",
  summary: "Reconciliation runs, newest first, with progress",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      limit: z.coerce.number().int().min(1).max(RUNS_MAX).default(RUNS_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "The runs.",
      z.object({ runs: z.array(z.object(RunProgressSchema.shape).openapi("UsageRun")) }),
    ),
  },
});

const readRun = createRoute({
  method: "get",
  path: "/usage-runs/{runId}",
  summary: "One reconciliation run with progress, rate and estimated time left",
  security: needsRole("viewer"),
  request: { params: z.object({ runId: z.uuid() }) },
  responses: { 200: json("The run.", RunProgressSchema), 404: problem("No such run.") },
});

/** Routes of the usage feature. */
export function usageRoutes(deps: () => UsageHttpDeps): OpenAPIHono<WebEnv> {
  const nowMs = () => deps().clock.now();
  const schemas = recordsSchema(nowMs);
  const routes = createRoutes();
  routes.openAPIRegistry.register("UsageRecord", schemas.one);
  routes.openAPIRegistry.register("UsageRecords", schemas.many);
  return routes
    .openapi(recordUsage, async (c) => {
      const body: unknown = c.req.valid("json");
      const records = parseRecords(schemas, body);
      c.env.run.note({ records: records.length });
      const outcomes = await deps().usageProducer.recordAll(records, c.env.run.signal);
      return c.json(toResponse(records, outcomes), 200);
    })
    .openapi(readTotal, async (c) => {
      const { tenant } = c.req.valid("param");
      const now = nowMs();
      const period = c.req.valid("query").period ?? periodOf(now);
      const { usageReads, usageCounters } = deps();
      const [booked, counter] = await Promise.all([
        usageReads.total(tenant, period, c.env.run.signal),
        usageCounters.counter(tenant, period, c.env.run.signal),
      ]);
      return c.json(explainTotal({ tenant, period, booked, counter, now }), 200);
    })
    .openapi(listRuns, async (c) => {
      const runs = await deps().usageReads.runs(c.req.valid("query").limit, c.env.run.signal);
      return c.json({ runs: [...runs] }, 200);
    })
    .openapi(readRun, async (c) => {
      const found = await deps().usageReads.run(c.req.valid("param").runId, c.env.run.signal);
      if (found === undefined) throw permanent("usage_run_unknown");
      return c.json(found, 200);
    });
}

type Schemas = ReturnType<typeof recordsSchema>;

/** A body with `records` is a list, anything else one record; the error then names the fields of what was meant. */
function parseRecords({ one, many }: Schemas, body: unknown): UsageRecord[] {
  const isList = typeof body === "object" && body !== null && "records" in body;
  const parsed = isList ? many.safeParse(body) : one.safeParse(body);
  if (!parsed.success) {
    throw requestInvalid(parsed.error, "body");
  }
  const list = "records" in parsed.data ? parsed.data.records : [parsed.data];
  return list.map(({ metadata: _, occurredAt, ...rest }) => ({
    ...rest,
    occurredAt: Date.parse(occurredAt),
  }));
}

/** One refusal fails the request: the caller repeats all of it, which is harmless. */
function toResponse(
  records: readonly UsageRecord[],
  outcomes: readonly (RecordedUse | AppError)[],
): z.output<typeof RecordResponse> {
  const failed = outcomes.find((outcome) => outcome instanceof AppError);
  if (failed !== undefined) throw failed;
  const results = outcomes.flatMap((outcome, index) =>
    outcome instanceof AppError
      ? []
      : [
          {
            requestId: records[index]?.requestId ?? "",
            outcome: outcome.outcome,
            tenantTotal: outcome.tenantTotal,
          },
        ],
  );
  const recorded = results.filter((result) => result.outcome === "recorded").length;
  return { recorded, duplicates: results.length - recorded, results };
}
