import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { createRoutes, json, needsRole, type WebEnv } from "../runtime/routes.http.ts";
import { type AuditLog, AuditRowSchema } from "./audit-log.supabase.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;

export interface AuditLogHttpDeps {
  readonly auditLog: AuditLog;
}

const list = createRoute({
  method: "get",
  path: "/audit-log",
  summary: "Who changed what, when and why, newest first",
  security: needsRole("admin"),
  request: {
    query: z.object({
      actor: z.string().min(1).max(200).optional(),
      action: z
        .string()
        .regex(/^[a-z][a-z0-9_]{2,62}$/, "must be an action such as job_disable")
        .optional(),
      subject: z.string().min(1).max(400).optional(),
      before: z
        .string()
        .regex(/^\d{1,18}$/, "must be the id of a row")
        .optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({
        rows: z.array(AuditRowSchema.openapi("AuditRow")),
        next: z.string().nullable(),
      }),
    ),
  },
});

/** Reads what people and other services changed. Nobody can change it. */
export const auditLogRoutes = (deps: () => AuditLogHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes().openapi(list, async (c) => {
    const page = await deps().auditLog.list(c.req.valid("query"), c.env.run.signal);
    return c.json({ rows: [...page.rows], next: page.next }, 200);
  });
