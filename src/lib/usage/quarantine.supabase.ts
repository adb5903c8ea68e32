import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { Decided, QuarantineLedger } from "./quarantine.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

export const SetAsideSchema = z.object({
  id: z.string(),
  shard: z.int(),
  n: z.string(),
  tenant: z.string().nullable(),
  period: z.int().nullable(),
  tokens: z.string().nullable(),
  error: z.string(),
  raw: z.string(),
  detectedAt: z.string(),
  resolvedAt: z.string().nullable(),
  resolution: z.string().nullable(),
  resolvedBy: z.string().nullable(),
  reason: z.string().nullable(),
});
const Page = z.object({ rows: z.array(SetAsideSchema), next: z.string().nullable() });
const DecisionReply = z.object({
  status: z.enum(["booked", "duplicate", "discarded", "resolved", "unknown"]),
  period: z.int().optional(),
  resolution: z.string().optional(),
});

function toDecided(row: unknown): Decided {
  const { status, period, resolution } = parseRow(DecisionReply, row, "quarantine");
  if (status === "booked" || status === "duplicate") return { kind: status, period: period ?? 0 };
  return status === "resolved" ? { kind: status, resolution: resolution ?? "" } : { kind: status };
}

export const quarantineLedger = (rpc: Rpc): QuarantineLedger => ({
  list: async ({ tenant, error, isOpen, before, limit }, signal) => {
    const args = {
      p_tenant: tenant ?? null,
      p_error: error ?? null,
      p_open: isOpen ?? null,
      p_before: before ?? null,
      p_limit: limit,
    };
    return parseRow(Page, await rpc("usage_read_quarantine", args, signal), "quarantine");
  },

  find: async (id, signal) => {
    const before = String(BigInt(id) + 1n);
    const args = { p_open: null, p_before: before, p_limit: 1 };
    const page = parseRow(Page, await rpc("usage_read_quarantine", args, signal), "quarantine");
    return page.rows.find((row) => row.id === id);
  },

  book: async (id, use, { who, reason }, signal) => {
    const args = {
      p_id: id,
      p_uid: use.uid,
      p_tenant: use.tenant,
      p_period: use.period,
      p_bill: use.billPeriod === use.period ? null : use.billPeriod,
      p_day: use.day,
      p_tokens: use.tokens,
      p_type: use.type,
      p_model: use.model,
      p_agent: use.agent,
      p_conversation: use.conversation,
      p_who: who,
      p_reason: reason,
    };
    return toDecided(await rpc("usage_book_quarantined", args, signal));
  },

  discard: async (id, { who, reason }, signal) => {
    const args = { p_id: id, p_who: who, p_reason: reason };
    return toDecided(await rpc("usage_discard_quarantined", args, signal));
  },
});
