import { z } from "zod";
import { invariant } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type {
  Compared,
  Comparison,
  ConsolidationLedger,
  Matched,
  MatchQuestion,
} from "./consolidate-shard.ts";
import { CursorRow, parseRow, toCursor } from "./usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);
const Reply = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("compared"),
    causes: z.record(z.string(), z.int()),
    tokens: Amount,
    held: z.int(),
    waiting: z.int(),
    booked: Amount,
    more: z.boolean(),
    repairs: z.object({
      tenant: z.array(z.string()),
      period: z.array(z.int()),
      delta: z.array(Amount),
    }),
  }),
  CursorRow.extend({ status: z.literal("elsewhere") }),
  z.object({ status: z.literal("periods"), periods: z.array(z.int()) }),
  z.object({ status: z.literal("spent") }),
]);

const Matches = z.array(
  CursorRow.extend({ shard: z.int(), status: z.enum(["agreed", "differs", "elsewhere"]) }),
);

/** The comparison over PostgREST: one call, one transaction. */
export const consolidationLedger = (rpc: Rpc): ConsolidationLedger => ({
  match: async ({ runId, apply }, asked, signal) => {
    const args = { p_run: runId, p_shards: asked.map(toQuestion), p_apply: apply };
    const row = await rpc("usage_match_shards", args, signal);
    const answers = new Map(parseRow(Matches, row, "match").map((match) => [match.shard, match]));
    return asked.map(({ shard }) => toMatched(answers.get(shard)));
  },

  compare: async (comparison, signal) => {
    const row = await rpc("usage_consolidate_shard", argumentsOf(comparison), signal);
    return toCompared(parseRow(Reply, row, "consolidation"));
  },

  confirm: async (shard, repairId, doneIn, signal) => {
    const args = { p_shard: shard, p_repair: repairId, p_run: doneIn };
    await rpc("usage_confirm_repair", args, signal);
  },
});

const toQuestion = ({ shard, at, isVerified, digests }: MatchQuestion) => ({
  shard,
  inc: at.inc,
  n: at.n,
  cum: at.cum,
  anchor: at.anchor,
  verified: isVerified,
  digests,
});

function toMatched(match: z.output<typeof Matches>[number] | undefined): Matched {
  invariant(match !== undefined, "every question has an answer", "database_reply_unexpected");
  if (match.status !== "elsewhere") return { kind: match.status };
  return { kind: match.status, cursor: toCursor(match) };
}

function argumentsOf({ snapshot, at, limits, ...rest }: Comparison): Record<string, unknown> {
  const { counters } = snapshot;
  return {
    p_run: rest.runId,
    p_shard: rest.shard,
    p_inc: snapshot.inc,
    p_n: at.n,
    p_cum: at.cum,
    p_anchor: at.anchor,
    p_is_verified: rest.isVerified,
    p_epoch: snapshot.epoch,
    p_repair: rest.repairId,
    p_periods: rest.periods,
    p_tenant: counters.map(({ tenant }) => tenant),
    p_period: counters.map(({ period }) => period),
    p_tokens: counters.map(({ tokens }) => tokens),
    p_auto_max: limits.autoMax,
    p_many_min: limits.manyTenantsMin,
    p_many_share: limits.manyTenantsShare,
    p_repairs_max: limits.correctionsMax,
    p_apply: rest.apply,
  };
}

function toCompared(reply: z.output<typeof Reply>): Compared {
  if (reply.status === "elsewhere") return { kind: reply.status, cursor: toCursor(reply) };
  if (reply.status !== "compared") {
    const { status: kind, ...rest } = reply;
    return { kind, ...rest } as Compared;
  }
  const { status: kind, repairs, ...rest } = reply;
  const { tenant: tenants, period: periods, delta: deltas } = repairs;
  const corrections = tenants.map((tenant, i) => {
    const [period, delta] = [periods[i], deltas[i]];
    const isWhole = period !== undefined && delta !== undefined;
    invariant(isWhole, "columns of one length", "database_reply_unexpected");
    return { tenant, period, delta };
  });
  return { kind, ...rest, corrections };
}
