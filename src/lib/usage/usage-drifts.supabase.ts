import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { DecidedDrift, DriftLedger } from "./usage-drifts.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);

export const DriftSchema = z.object({
  id: z.string(),
  runId: z.string().describe("The run that found it."),
  lastRunId: z.string().describe("The run that saw it last."),
  shard: z.int(),
  tenant: z.string(),
  period: z.int(),
  lineage: z.string().describe("With `n` the instant of the comparison."),
  n: z.string(),
  redis: Amount.nullable().describe("The counter; null when there is none."),
  used: Amount.describe("What the ledger says happened in the period."),
  drift: Amount.describe("redis - used; of `total_edited`: the total minus the sum of the ledger."),
  cause: z.string(),
  repair: z.string().describe("What follows what; proposed, or decided by a person."),
  state: z.string(),
  evidence: z.record(z.string(), z.unknown()),
  decisions: z.array(
    z.object({
      decision: z.string(),
      repair: z.string(),
      who: z.string(),
      why: z.string(),
      at: z.string(),
    }),
  ),
  detectedAt: z.string(),
  seenAt: z.string(),
  repairedAt: z.string().nullable(),
});
const Page = z.object({ rows: z.array(DriftSchema), next: z.string().nullable() });
const DecisionReply = z.discriminatedUnion("status", [
  z.object({ status: z.enum(["approved", "rejected"]), drift: DriftSchema }),
  z.object({ status: z.literal("not_held"), state: z.string() }),
  z.object({ status: z.literal("repair_refused"), repair: z.string() }),
  z.object({ status: z.enum(["repairing", "unknown"]) }),
]);
const Approval = z.object({ approved: z.int(), shards: z.array(z.int()) });

export const driftLedger = (rpc: Rpc): DriftLedger => ({
  list: async ({ period, tenant, state, run, cause, before, limit }, signal) => {
    const args = {
      p_period: period ?? null,
      p_tenant: tenant ?? null,
      p_state: state ?? null,
      p_run: run ?? null,
      p_cause: cause ?? null,
      p_before: before ?? null,
      p_limit: limit,
    };
    return parseRow(Page, await rpc("usage_read_drifts", args, signal), "drifts");
  },

  decide: async (id, { decision, repair, who, reason }, signal) => {
    const args = {
      p_id: id,
      p_decision: decision,
      p_repair: repair ?? null,
      p_who: who,
      p_reason: reason,
    };
    const row = await rpc("usage_decide_drift", args, signal);
    return toDecided(parseRow(DecisionReply, row, "drift decision"));
  },

  approveRun: async ({ run, cause, who, reason }, signal) => {
    const args = { p_run: run, p_cause: cause ?? null, p_who: who, p_reason: reason };
    return parseRow(Approval, await rpc("usage_approve_drifts", args, signal), "drift approval");
  },
});

function toDecided(reply: z.output<typeof DecisionReply>): DecidedDrift {
  if ("drift" in reply) return { kind: "decided", drift: reply.drift };
  if (reply.status === "not_held") return { kind: reply.status, state: reply.state };
  if (reply.status === "repair_refused") return { kind: reply.status, repair: reply.repair };
  return { kind: reply.status };
}
