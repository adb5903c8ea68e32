import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";

export const AuditRowSchema = z.object({
  id: z.string().regex(/^\d+$/),
  at: z.string(),
  actor: z.string(),
  action: z.string().describe("<feature>_<verb>, such as job_disable."),
  subject: z.string().describe("<kind>:<id> of what was changed."),
  reason: z.string().nullable(),
  requestId: z.string().nullable().describe("Finds the request in the log (`runId`)."),
  details: z.record(z.string(), z.unknown()).describe("What it was before, and what after."),
});
const Page = z.object({ rows: z.array(AuditRowSchema), next: z.string().nullable() });

export interface AuditFilter {
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly subject?: string | undefined;
  /** Id of the last row of the page before. */
  readonly before?: string | undefined;
  readonly limit: number;
}

/** Reads what was changed. Rows are written by the SQL function that makes the change, in its transaction. */
export interface AuditLog {
  list(filter: AuditFilter, signal: AbortSignal): Promise<z.output<typeof Page>>;
}

export const auditLog = (rpc: Rpc): AuditLog => ({
  list: async ({ actor, action, subject, before, limit }, signal) => {
    const args = {
      p_actor: actor ?? null,
      p_action: action ?? null,
      p_subject: subject ?? null,
      p_before: before ?? null,
      p_limit: limit,
    };
    const parsed = Page.safeParse(await rpc("audit_read", args, signal));
    if (parsed.success) return parsed.data;
    const details = { what: "audit log" };
    throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
  },
});
