import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);

export const AuditSchema = z.object({
  auditId: z.string(),
  period: z.int(),
  trigger: z.string(),
  requestedBy: z.string().nullable(),
  status: z.enum(["running", "succeeded", "failed"]),
  periodState: z.string().nullable().describe("open, closing or closed, when the audit ended."),
  percent: z.number(),
  tenants: Amount,
  total: Amount.describe("Σ of the totals that are billed in the month."),
  ledger: Amount.describe("Σ of the ledger rows that are billed in the month."),
  used: Amount.describe("Σ of the ledger by the month of use, without corrections."),
  found: Amount.describe("Σ of the events, with what was recorded of dropped days."),
  pruned: Amount.describe("Part of found whose events were dropped."),
  differences: Amount.nullable().describe("Findings that are no mere information; null = running."),
  causes: z.record(
    z.string(),
    z.object({ findings: z.int(), tokens: Amount, largest: Amount.describe("|tokens|") }),
  ),
  errorCode: z.string().nullable(),
  startedAt: z.string(),
  finishedAt: z.string().nullable(),
});
export type Audit = z.output<typeof AuditSchema>;

export const FindingSchema = z.object({
  id: z.string(),
  tenant: z.string().nullable().describe("Null = about a batch or a shard."),
  cause: z.string(),
  isDifference: z.boolean().describe("False = it only explains."),
  tokens: Amount.describe("How far what is booked stands above (+) or below (-) the evidence."),
  events: Amount,
  relative: z.string().nullable().describe("|tokens| by the total of the tenant."),
  evidence: z.record(z.string(), z.unknown()),
});
export type Finding = z.output<typeof FindingSchema>;
const FindingPage = z.object({ rows: z.array(FindingSchema), next: z.string().nullable() });

export const PeriodSchema = z.object({
  period: z.int(),
  state: z.enum(["open", "closing", "closed"]),
  closingAt: z.string().nullable(),
  graceUntil: z.string().nullable(),
  checkedAt: z.string().nullable(),
  heldBy: z.array(z.object({ reason: z.string() }).catchall(z.unknown())),
  shardsPassed: z.int().describe("Shards that were read past their barrier."),
  shardsNoted: z.int().describe("Shards whose barrier is noted."),
  closedAt: z.string().nullable(),
  closedBy: z.string().nullable(),
  reason: z.string().nullable(),
  despite: z.array(z.string()),
  sealedAt: z.string().nullable(),
  tokens: Amount.nullable(),
  events: Amount.nullable(),
  tenants: Amount.nullable(),
  checksum: z.string().nullable().describe("sha256; see docs/operations/close-a-month.md."),
});

export interface FindingFilter {
  readonly cause?: string | undefined;
  readonly tenant?: string | undefined;
  readonly isDifference?: true | undefined;
  /** Id of the last row of the page before. */
  readonly after?: string | undefined;
  readonly limit: number;
}

export interface AuditReads {
  /** Newest first. */
  audits(
    filter: { period?: number | undefined; before?: string | undefined; limit: number },
    signal: AbortSignal,
  ): Promise<readonly Audit[]>;
  audit(auditId: string, signal: AbortSignal): Promise<Audit | undefined>;
  findings(
    auditId: string,
    filter: FindingFilter,
    signal: AbortSignal,
  ): Promise<z.output<typeof FindingPage>>;
  /** Newest first; a month that is not listed is open. */
  periods(
    filter: { before?: number | undefined; limit: number },
    signal: AbortSignal,
  ): Promise<readonly z.output<typeof PeriodSchema>[]>;
}

export const auditReads = (rpc: Rpc): AuditReads => ({
  audits: async ({ period, before, limit }, signal) => {
    const args = { p_period: period ?? null, p_before: before ?? null, p_limit: limit };
    return parseRow(z.array(AuditSchema), await rpc("usage_read_audits", args, signal), "audits");
  },

  audit: async (auditId, signal) => {
    const row = await rpc("usage_read_audit", { p_audit: auditId }, signal);
    return parseRow(AuditSchema.nullable(), row, "audit") ?? undefined;
  },

  findings: async (auditId, { cause, tenant, isDifference, after, limit }, signal) => {
    const args = {
      p_audit: auditId,
      p_cause: cause ?? null,
      p_tenant: tenant ?? null,
      p_differences: isDifference ?? null,
      p_after: after ?? null,
      p_limit: limit,
    };
    return parseRow(FindingPage, await rpc("usage_read_findings", args, signal), "findings");
  },

  periods: async ({ before, limit }, signal) => {
    const args = { p_before: before ?? null, p_limit: limit };
    return parseRow(
      z.array(PeriodSchema),
      await rpc("usage_read_periods", args, signal),
      "periods",
    );
  },
});
