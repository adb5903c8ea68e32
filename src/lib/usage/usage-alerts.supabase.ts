import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { UsageFacts } from "./usage-alerts.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

/** Rows of each list; more of them are one incident anyway. */
const ROWS_MAX = 200;

const Amount = z.string().regex(/^-?\d+$/);
const Instant = z.string().transform(Date.parse);
const Finding = z.object({
  tenant: z.string().nullable(),
  cause: z.string(),
  tokens: Amount,
  relative: z.string().nullable(),
  evidence: z.record(z.string(), z.unknown()),
});
const Facts = z.object({
  audits: z.array(z.object({ auditId: z.string(), period: z.int(), findings: z.array(Finding) })),
  consolidation: z
    .object({ runId: z.string(), findings: z.array(Finding.extend({ period: z.int() })) })
    .nullable(),
  gaps: z.array(
    z.object({ shard: z.int(), tokens: Amount, entries: Amount, ids: z.array(z.string()) }),
  ),
  quarantine: z.object({
    entries: z.int(),
    oldest: Instant.nullable(),
    errors: z.record(z.string(), z.int()),
  }),
  lag: z.object({ shards: z.int(), since: Instant.nullable(), sample: z.array(z.int()) }),
  lastRunAt: Instant.nullable(),
  lastRecordAt: Instant.nullable(),
  installedAt: Instant,
  heldPeriods: z.array(
    z.object({ period: z.int(), graceUntil: Instant, heldBy: z.array(z.unknown()) }),
  ),
  open: z.array(z.object({ key: z.string() }).transform(({ key }) => key)),
});

export const usageFacts = (rpc: Rpc): UsageFacts => ({
  read: async (query, signal) => {
    const args = {
      p_tokens_min: query.tokensMin,
      p_relative_min: query.relativeMin,
      p_relative_tokens_min: query.relativeTokensMin,
      p_planned_before: new Date(query.plannedBefore).toISOString(),
      p_now: new Date(query.now).toISOString(),
      p_limit: ROWS_MAX,
    };
    return parseRow(Facts, await rpc("usage_alert_facts", args, signal), "alert facts");
  },
});
