import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { type ReportReads, ReportRowSchema } from "./reports.supabase.ts";
import { ReportDataSchema } from "./reports-data.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
/** The page brings its own style and nothing else: no script of anybody may run in it. */
const PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

export interface ReportsHttpDeps {
  readonly reportReads: ReportReads;
}

const Day = z.iso.date("must be a day such as 2026-11-24");

const list = createRoute({
  method: "get",
  path: "/reports",
  summary: "Daily reports, newest first",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      before: Day.optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({
        rows: z.array(ReportRowSchema.openapi("ReportRow")),
        next: z.string().nullable(),
      }),
    ),
  },
});

const read = createRoute({
  method: "get",
  path: "/reports/{day}",
  summary: "The report of a day: as data, or as a page when the caller prefers HTML",
  security: needsRole("viewer"),
  request: { params: z.object({ day: Day }) },
  responses: {
    200: {
      description: "The report.",
      content: {
        "application/json": { schema: ReportDataSchema.openapi("Report") },
        "text/html": { schema: z.string() },
      },
    },
    404: problem("There is no report of that day."),
  },
});

/** Routes to read daily reports. */
export const reportRoutes = (deps: () => ReportsHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const page = await deps().reportReads.list(c.req.valid("query"), c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(read, async (c) => {
      const { day } = c.req.valid("param");
      const { reportReads } = deps();
      c.header("vary", "accept");
      if (prefersHtml(c.req.header("accept"))) {
        const page = await reportReads.html(day, c.env.run.signal);
        if (page === undefined) throw permanent("report_unknown", { day });
        c.header("content-security-policy", PAGE_POLICY);
        return c.html(page, 200);
      }
      const data = await reportReads.data(day, c.env.run.signal);
      if (data === undefined) throw permanent("report_unknown", { day });
      return c.json(data, 200);
    });

/** JSON unless HTML is asked for before it: that is what browsers do, and programs do not. */
function prefersHtml(accept = ""): boolean {
  const types = accept.split(",").map((part) => part.split(";")[0]?.trim().toLowerCase());
  const wanted = types.find((type) => type === "text/html" || type === "application/json");
  return wanted === "text/html";
}
