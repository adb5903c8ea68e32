import type { Run } from "../kernel/run.ts";
import { AuditMessageSchema } from "./audit-message.ts";
import type { AuditLedger } from "./audit-period.ts";

export interface PoisonedAuditDeps {
  readonly auditLedger: Pick<AuditLedger, "finish">;
}

/**
 * Takes what the platform gave up on out of the poison queue and into our books: the audit failed. Nothing is lost: what
 * was compared stays, and asking for the same audit again goes on from there. Safe to run twice.
 */
export async function settlePoisonedAudit(
  deps: PoisonedAuditDeps,
  raw: unknown,
  run: Run,
): Promise<void> {
  const parsed = AuditMessageSchema.safeParse(raw);
  if (!parsed.success) {
    const characters = typeof raw === "string" ? raw.length : JSON.stringify(raw ?? null).length;
    run.log.error("usage_audit_message_unreadable", { characters });
    return;
  }
  const { auditId, phase } = parsed.data;
  run.log.error("usage_audit_failed", { auditId, phase });
  await deps.auditLedger.finish(auditId, "message_poisoned", run.signal);
}
