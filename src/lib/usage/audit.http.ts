import { randomUUID } from "node:crypto";
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { permanent } from "../kernel/errors.ts";
import {
  createRoutes,
  json,
  needsRole,
  problem,
  requestInvalid,
  type WebEnv,
} from "../runtime/routes.http.ts";
import { toCsv } from "./audit-csv.ts";
import { type Audit, type AuditReads, AuditSchema, FindingSchema } from "./audit-reads.supabase.ts";
import { type AuditStartDeps, startAudit } from "./audit-start.ts";
import { PeriodFilter, PeriodParam, periodText } from "./usage-period.http.ts";

const AUDITS_MAX = 100;
const AUDITS_DEFAULT = 20;
const FINDINGS_MAX = 1000;
const FINDINGS_DEFAULT = 100;
/** About 5 MB; the `link` header leads to the following page. */
const CSV_ROWS_MAX = 10_000;

export interface AuditHttpDeps extends AuditStartDeps {
  readonly auditReads: AuditReads;
}

const ShownAudit = AuditSchema.extend({ period: z.string() }).openapi("UsageAudit");
const toShown = (audit: Audit) => ({ ...audit, period: periodText(audit.period) });

const FindingId = z.string().regex(/^\d{1,18}$/, "must be the id of a finding");
const Filter = z.object({
  cause: z.string().min(1).max(50).optional(),
  tenant: z.string().min(1).max(200).optional(),
  only: z.enum(["differences"]).optional().describe("Leaves out what only explains."),
  after: FindingId.optional(),
});
const filterOf = ({ only, ...filter }: z.output<typeof Filter>) => ({
  ...filter,
  isDifference: only === "differences" ? (true as const) : undefined,
});

const list = createRoute({
  method: "get",
  path: "/usage/audits",
  summary: "Audits, newest first: what totals, ledger and events sum up to, and what differs",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      period: PeriodFilter,
      before: z.iso.datetime({ offset: true }).optional().describe("Started before."),
      limit: z.coerce.number().int().min(1).max(AUDITS_MAX).default(AUDITS_DEFAULT),
    }),
  },
  responses: { 200: json("The audits.", z.object({ audits: z.array(ShownAudit) })) },
});

const start = createRoute({
  method: "post",
  path: "/usage/audits",
  summary: "Audit a month now; changes nothing but the list of audits",
  security: needsRole("operator"),
  request: {
    body: {
      required: true,
      content: { "application/json": { schema: z.strictObject({ period: PeriodParam }) } },
    },
  },
  responses: { 202: json("It has begun.", z.object({ auditId: z.string(), status: z.string() })) },
});

const read = createRoute({
  method: "get",
  path: "/usage/audits/{id}",
  summary: "One audit with a page of its findings: tenant, cause, exact amount, evidence",
  security: needsRole("viewer"),
  request: {
    params: z.object({ id: z.uuid() }),
    query: Filter.extend({
      limit: z.coerce.number().int().min(1).max(FINDINGS_MAX).default(FINDINGS_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "`next` is `after` of the following page.",
      ShownAudit.extend({
        findings: z.array(FindingSchema.openapi("UsageAuditFinding")),
        next: z.string().nullable(),
      }),
    ),
    404: problem("No such audit."),
  },
});

const CsvParams = z.object({ id: z.uuid() });
const CsvQuery = Filter.extend({
  limit: z.coerce.number().int().min(1).max(CSV_ROWS_MAX).default(CSV_ROWS_MAX),
});
const csv = {
  method: "get" as const,
  path: "/usage/audits/{id}.csv",
  summary: "The findings of an audit as CSV, 10,000 rows at a time",
  security: needsRole("viewer"),
  request: { params: CsvParams, query: CsvQuery },
  responses: {
    200: {
      description: "RFC 4180; the `link` header leads to the following page.",
      content: { "text/csv": { schema: z.string() } },
    },
    404: problem("No such audit."),
  },
};

/** Routes to see what an audit found, and to start one. */
export function auditRoutes(deps: () => AuditHttpDeps): OpenAPIHono<WebEnv> {
  const routes = createRoutes();
  // Documented and guarded like every other route; the router cannot take a parameter apart by itself.
  routes.openAPIRegistry.registerPath(csv);
  routes.get("/usage/audits/:file{[^/]+\\.csv}", (c) => answerCsv(deps(), c));
  return routes
    .openapi(list, async (c) => {
      const audits = await deps().auditReads.audits(c.req.valid("query"), c.env.run.signal);
      return c.json({ audits: audits.map(toShown) }, 200);
    })
    .openapi(start, async (c) => {
      const { period } = c.req.valid("json");
      const key = `manual:${period}:${randomUUID()}`;
      const order = { key, period, trigger: "manual", who: c.var.caller.name } as const;
      const { auditId, status } = await startAudit(deps(), order, c.env.run);
      return c.json({ auditId, status }, 202);
    })
    .openapi(read, async (c) => {
      const { id } = c.req.valid("param");
      const { limit, ...filter } = c.req.valid("query");
      const { auditReads } = deps();
      const audit = await auditReads.audit(id, c.env.run.signal);
      if (audit === undefined) throw permanent("usage_audit_unknown");
      const page = { ...filterOf(filter), limit };
      const { rows, next } = await auditReads.findings(id, page, c.env.run.signal);
      return c.json({ ...toShown(audit), findings: [...rows], next }, 200);
    });
}

async function answerCsv({ auditReads }: AuditHttpDeps, c: Context<WebEnv>): Promise<Response> {
  const id = (c.req.param("file") ?? "").slice(0, -".csv".length);
  const params = CsvParams.safeParse({ id });
  if (!params.success) throw requestInvalid(params.error, "param");
  const query = CsvQuery.safeParse(c.req.query());
  if (!query.success) throw requestInvalid(query.error, "query");
  if ((await auditReads.audit(id, c.env.run.signal)) === undefined)
    throw permanent("usage_audit_unknown");
  const { limit, ...filter } = query.data;
  const page = { ...filterOf(filter), limit };
  const { rows, next } = await auditReads.findings(id, page, c.env.run.signal);
  c.header("content-type", "text/csv; charset=utf-8");
  c.header("content-disposition", `attachment; filename="usage-audit-${id}.csv"`);
  if (next !== null) c.header("link", `<${nextPage(c.req.url, next)}>; rel="next"`);
  return c.body(toCsv(rows), 200);
}

function nextPage(url: string, after: string): string {
  const next = new URL(url);
  next.searchParams.set("after", after);
  return `${next.pathname}${next.search}`;
}
