import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);

export const LedgerFactsSchema = z.object({
  cursor: z
    .object({
      inc: z.string(),
      n: Amount,
      cum: Amount.nullable(),
      count: Amount.nullable(),
      anchor: z.string().nullable(),
    })
    .nullable(),
  total: z.object({ tokens: Amount, events: Amount }),
  ledger: z.object({
    billed: Amount,
    used: Amount,
    logUsed: Amount,
    late: Amount,
    future: Amount,
    adjusted: Amount,
    legacy: Amount,
    rows: z.int(),
  }),
  lanes: z.array(z.object({ lane: z.string(), tokens: Amount, events: Amount })),
  batches: z.array(
    z.object({
      id: z.string(),
      lane: z.string(),
      fromN: z.string(),
      toN: z.string(),
      tokens: Amount,
      events: Amount,
      bookedAt: z.string(),
    }),
  ),
  moved: z.array(
    z.object({
      id: z.string(),
      period: z.int(),
      usagePeriod: z.int(),
      tokens: Amount,
      reason: z.string(),
    }),
  ),
  adjustments: z.array(
    z.object({
      id: z.string(),
      tokens: Amount,
      reason: z.string(),
      note: z.record(z.string(), z.unknown()).nullable(),
      bookedAt: z.string(),
    }),
  ),
  quarantined: z.object({
    tokens: Amount,
    entries: z.int(),
    rows: z.array(
      z.object({
        id: z.string(),
        n: z.string(),
        error: z.string(),
        tokens: Amount.nullable(),
        detectedAt: z.string(),
      }),
    ),
  }),
  gaps: z.array(
    z.object({
      id: z.string(),
      cause: z.string(),
      fromN: z.string(),
      toN: z.string(),
      lost: Amount,
      recovered: Amount,
      entriesLost: z.int().nullable(),
      detectedAt: z.string(),
    }),
  ),
});
export type ExplainedLedger = z.output<typeof LedgerFactsSchema>;

export interface UsageExplainLedger {
  /** Everything the ledger knows about a tenant and month, at one instant. */
  facts(
    tenant: string,
    period: number,
    shard: number,
    signal: AbortSignal,
  ): Promise<ExplainedLedger>;
}

export const usageExplainLedger = (rpc: Rpc): UsageExplainLedger => ({
  facts: async (tenant, period, shard, signal) => {
    const args = { p_tenant: tenant, p_period: period, p_shard: shard };
    return parseRow(LedgerFactsSchema, await rpc("usage_explain", args, signal), "explain");
  },
});
