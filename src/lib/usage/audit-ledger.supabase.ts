import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { AuditedRange, AuditLedger } from "./audit-period.ts";
import type { AuditStarts } from "./audit-start.ts";
import type { CloseOutcome, PeriodLedger } from "./close-period.ts";
import type { EventPruner } from "./prune-events.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

const instant = (ms: number): string => new Date(ms).toISOString();

const StartReply = z.object({
  auditId: z.uuid(),
  status: z.enum(["running", "succeeded", "failed"]),
  nextShard: z.int(),
  rows: z.number(),
});
const Compared = z.object({ nextShard: z.int(), differences: z.int() });
const CompareReply = z.discriminatedUnion("status", [
  Compared.extend({ status: z.literal("audited") }),
  Compared.extend({ status: z.literal("stale") }),
  z.object({ status: z.enum(["busy", "ended", "unknown"]) }),
]);
const FinishReply = z.object({
  status: z.enum(["running", "succeeded", "failed"]),
  differences: z.int(),
});

export const auditStarts = (rpc: Rpc): AuditStarts => ({
  start: async ({ key, period, trigger, who }, signal) => {
    const args = { p_key: key, p_period: period, p_trigger: trigger, p_who: who };
    return parseRow(StartReply, await rpc("usage_start_audit", args, signal), "audit");
  },
});

export const auditLedger = (rpc: Rpc): AuditLedger => ({
  compare: async (auditId, { from, to }, signal) => {
    const args = { p_audit: auditId, p_from: from, p_to: to };
    const reply = await rpc("usage_audit_shards", args, signal);
    const { status: kind, ...rest } = parseRow(CompareReply, reply, "audited shards");
    return { kind, ...rest } as AuditedRange; // the schema is the union, by another name of its tag
  },

  finish: async (auditId, errorCode, signal) => {
    const args = { p_audit: auditId, p_error: errorCode };
    return parseRow(FinishReply, await rpc("usage_finish_audit", args, signal), "audit");
  },
});

const Held = z
  .object({ reason: z.enum(["grace", "shards_behind", "open_gap", "open_quarantine"]) })
  .catchall(z.unknown());
const CloseReply = z.discriminatedUnion("status", [
  z.object({ status: z.literal("closed"), closedAt: z.string(), isNew: z.boolean() }),
  z.object({ status: z.literal("closing"), heldBy: z.array(Held) }),
  z.object({ status: z.literal("running"), until: z.string() }),
]);
const SealReply = z.object({ status: z.enum(["sealing", "sealed", "open"]) });

export const periodLedger = (rpc: Rpc): PeriodLedger => ({
  due: async (now, signal) => {
    const rows = await rpc("usage_due_periods", { p_now: instant(now) }, signal);
    return parseRow(z.array(z.int()), rows, "due periods");
  },

  close: async ({ period, heads, graceHours, who, reason, despite, now }, signal) => {
    const args = {
      p_period: period,
      p_heads: heads.map(({ shard, inc, n }) => ({ shard, inc, n })),
      p_grace_hours: graceHours,
      p_who: who,
      p_reason: reason ?? null,
      p_despite: despite,
      p_now: instant(now),
    };
    const reply = await rpc("usage_close_period", args, signal);
    return toOutcome(parseRow(CloseReply, reply, "period"));
  },

  seal: async (period, shards, signal) => {
    const args = { p_period: period, p_shards: shards };
    const reply = await rpc("usage_seal_period", args, signal);
    return parseRow(SealReply, reply, "seal").status !== "sealing";
  },
});

function toOutcome(reply: z.output<typeof CloseReply>): CloseOutcome {
  switch (reply.status) {
    case "closed":
      return { kind: "closed", closedAt: reply.closedAt, isNew: reply.isNew };
    case "closing":
      return { kind: "closing", heldBy: reply.heldBy };
    default:
      return { kind: "running", until: reply.until };
  }
}

const PruneReply = z.object({
  status: z.enum(["pruned", "kept", "absent"]),
  events: z.number().default(0),
});

export const eventPruner = (rpc: Rpc): EventPruner => ({
  days: async (before, limit, signal) => {
    const rows = await rpc("usage_prunable_days", { p_before: before, p_limit: limit }, signal);
    return parseRow(z.array(z.iso.date()), rows, "prunable days");
  },

  pruneDay: async (day, before, signal) => {
    const reply = await rpc("usage_prune_day", { p_day: day, p_before: before }, signal);
    const { status, events } = parseRow(PruneReply, reply, "pruned day");
    return { kind: status, events };
  },

  pruneRows: async (kind, before, limit, signal) => {
    const args = { p_what: kind, p_before: instant(before), p_limit: limit };
    return parseRow(z.int(), await rpc("usage_prune_rows", args, signal), "pruned rows");
  },
});
