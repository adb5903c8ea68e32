import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Clock } from "../kernel/clock.ts";
import { createRoutes, json, needsRole, type WebEnv } from "../runtime/routes.http.ts";
import { explainUsage } from "./explain-usage.ts";
import { LedgerFactsSchema, type UsageExplainLedger } from "./usage-explain.supabase.ts";
import { periodOf, shardOf } from "./usage-keys.ts";
import type { UsageTail } from "./usage-log.redis.ts";
import { PeriodQuery, periodText } from "./usage-period.http.ts";
import { TenantSchema } from "./usage-record.ts";

export interface ExplainHttpDeps {
  readonly clock: Clock;
  readonly usageExplainLedger: UsageExplainLedger;
  readonly usageTail: UsageTail;
}

const Amount = z.string();
const ExplainedUsage = z
  .object({
    ...LedgerFactsSchema.omit({ cursor: true }).shape,
    tenant: z.string(),
    period: z.string(),
    shard: z.int(),
    asOf: z.string(),
    identity: z
      .object({
        recorded: Amount.nullable(),
        booked: Amount,
        pending: Amount,
        quarantined: Amount,
        difference: Amount.nullable(),
      })
      .describe("recorded = booked + pending + quarantined + difference"),
    pending: z.object({
      tokens: Amount,
      entries: z.int(),
      isWhole: z.boolean(),
      rows: z.array(
        z.object({ n: z.string(), uid: z.string(), tokens: Amount, model: z.string() }),
      ),
    }),
    knownLost: Amount.describe("Lost in the shard of the tenant, all tenants together."),
    recovered: Amount,
    findings: z.array(z.string()),
  })
  .openapi("ExplainedUsage");

const explain = createRoute({
  method: "get",
  path: "/usage/{tenant}/explain",
  summary: "Where every token of a tenant's month is, with ids, and what explains a difference",
  security: needsRole("viewer"),
  request: { params: z.object({ tenant: TenantSchema }), query: z.object({ period: PeriodQuery }) },
  responses: { 200: json("The explanation; amounts are decimal strings.", ExplainedUsage) },
});

/** Route that explains a tenant's month. */
export const usageExplainRoutes = (deps: () => ExplainHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes().openapi(explain, async (c) => {
    const { tenant } = c.req.valid("param");
    const { clock, usageExplainLedger, usageTail } = deps();
    const now = clock.now();
    const period = c.req.valid("query").period ?? periodOf(now);
    const shard = shardOf(tenant);
    // The ledger first: its cursor belongs to its sums, and Redis keeps everything after it.
    const facts = await usageExplainLedger.facts(tenant, period, shard, c.env.run.signal);
    const after = facts.cursor?.n ?? "0";
    const log = await usageTail.tail(tenant, period, after, c.env.run.signal);
    const { cursor: _, ...ledger } = facts;
    const explained = explainUsage(tenant, period, facts, log);
    const about = { tenant, period: periodText(period), shard, asOf: new Date(now).toISOString() };
    const pending = { ...explained.pending, rows: [...explained.pending.rows] };
    const findings = [...explained.findings];
    return c.json({ ...ledger, ...explained, pending, findings, ...about }, 200);
  });
