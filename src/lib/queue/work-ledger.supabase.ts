import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { PRIORITIES, type WorkSpec } from "./work.ts";
import type { NewItem, WorkBooks, WorkClaims, WorkSweeps } from "./work-ports.ts";

const Priority = z.enum(PRIORITIES);
const Text = z.string();
export const WakeupsSchema = z.array(
  z.object({ id: Text, kind: Text, priority: Priority, delayMs: z.number() }),
);
/** Of one kind, which the caller knows. */
const Turns = z.array(z.object({ id: Text, priority: Priority, delayMs: z.number() }));

const AcceptedReply = z.object({ id: Text, isDuplicate: z.boolean() });
const EnqueueReply = z.object({ items: z.array(AcceptedReply), send: WakeupsSchema });

export const EndedSchema = z.object({
  id: Text,
  kind: Text,
  version: z.number(),
  payload: z.unknown(),
  state: z.enum(["dead", "cancelled"]),
  code: Text,
});

const ClaimReply = z.discriminatedUnion("outcome", [
  z.object({
    outcome: z.literal("claimed"),
    id: Text,
    kind: Text,
    version: z.number(),
    tenant: Text,
    priority: Priority,
    payload: z.unknown(),
    attempt: z.number(),
    fence: z.number(),
  }),
  z.object({ outcome: z.enum(["unknown", "gone", "busy", "throttled"]) }),
  z.object({ outcome: z.enum(["not_due", "alone"]), delayMs: z.number(), priority: Priority }),
  EndedSchema.extend({ outcome: z.literal("ended"), send: Turns }),
]);

const SettleReply = z.discriminatedUnion("status", [
  z.object({ status: z.literal("stale") }),
  z.object({
    status: z.literal("ok"),
    state: z.enum(["succeeded", "retrying", "queued", "dead", "cancelled", "running"]),
    priority: Priority,
    delayMs: z.number().nullable(),
    send: Turns,
  }),
]);

export function parseWorkReply<T extends z.ZodType>(schema: T, reply: unknown): z.output<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const details = { what: "work" };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}

export interface WorkLedgerOptions {
  readonly specs: readonly WorkSpec[];
  /** This process. */
  readonly worker: string;
  /** From 0 up to, not including, 1. */
  readonly random: () => number;
}

/** `{kind: items of a tenant that may run at once}`, as the functions take it. */
export const runningMaxOf = (specs: readonly WorkSpec[]): Readonly<Record<string, number>> =>
  Object.fromEntries(specs.map(({ kind, runningPerTenantMax }) => [kind, runningPerTenantMax]));

export function workBooks(rpc: Rpc, specs: readonly WorkSpec[]): WorkBooks {
  const runningMax = runningMaxOf(specs);
  return {
    enqueue: async (items, isSent, signal) => {
      const args = {
        p_items: items.map(toRow),
        p_running_max: runningMax,
        p_is_sent: isSent,
      };
      return parseWorkReply(EnqueueReply, await rpc("work_enqueue", args, signal));
    },
    reject: async ({ source, kind, version, tenant, priority, code, error, evidence }, signal) => {
      const args = {
        p_source: source,
        p_kind: kind,
        p_version: version,
        p_tenant: tenant,
        p_priority: priority,
        p_code: code,
        p_error: error,
        p_evidence: evidence,
      };
      return parseWorkReply(AcceptedReply, await rpc("work_reject", args, signal));
    },
  };
}

const toRow = ({ runAt, ...item }: NewItem) => ({
  ...item,
  ...(runAt === undefined ? {} : { runAt: new Date(runAt).toISOString() }),
});

export function workClaims(rpc: Rpc, { specs, worker, random }: WorkLedgerOptions): WorkClaims {
  const byKind = new Map(specs.map((spec) => [spec.kind, spec]));
  const runningMaxOfKind = (kind: string) => byKind.get(kind)?.runningPerTenantMax ?? 0;
  const leaseMsOf = (kind: string) => byKind.get(kind)?.leaseMs ?? 0;
  return {
    claim: async (id, kind, signal) => {
      const args = {
        p_id: id,
        p_worker: worker,
        p_lease_ms: leaseMsOf(kind),
        p_running_max: runningMaxOfKind(kind),
        p_random: random(),
      };
      const reply = parseWorkReply(ClaimReply, await rpc("work_claim", args, signal));
      if (reply.outcome === "claimed") return { outcome: "claimed", item: reply };
      if (reply.outcome !== "ended") return reply;
      return { outcome: "ended", item: reply, send: withKind(reply.kind, reply.send) };
    },

    heartbeat: async ({ id, fence, kind }, progress, signal) => {
      const args = {
        p_id: id,
        p_fence: fence,
        p_lease_ms: leaseMsOf(kind),
        p_progress: progress ?? null,
      };
      const schema = z.object({ isHeld: z.boolean(), isCancelled: z.boolean() });
      return parseWorkReply(schema, await rpc("work_heartbeat", args, signal));
    },

    settle: async ({ id, fence, kind }, settlement, hasSettle, signal) => {
      const { outcome, code, error, result, evidence, delayMs = 0 } = settlement;
      const args = {
        p_id: id,
        p_fence: fence,
        p_outcome: outcome,
        p_running_max: runningMaxOfKind(kind),
        p_code: code ?? null,
        p_error: error ?? null,
        p_result: result ?? null,
        p_evidence: evidence ?? null,
        p_delay_ms: Math.ceil(delayMs),
        p_random: random(),
        p_has_settle: hasSettle,
      };
      const reply = parseWorkReply(SettleReply, await rpc("work_settle", args, signal));
      if (reply.status === "stale" || reply.state === "running") return { status: "stale" };
      const { state, priority, delayMs: again, send } = reply;
      return {
        status: "ok",
        state,
        priority,
        delayMs: again ?? undefined,
        send: withKind(kind, send),
      };
    },

    settled: async (ids, signal) => {
      await rpc("work_settled", { p_ids: ids }, signal);
    },
  };
}

const withKind = (kind: string, turns: z.output<typeof Turns>) =>
  turns.map((turn) => ({ ...turn, kind }));

/** Items of one call; the sweeper calls again while there are more. */
const SWEEP_ITEMS = 500;
const SWEEP_TENANTS = 200;
const SETTLE_ITEMS = 100;

export function workSweeps(rpc: Rpc, specs: readonly WorkSpec[]): WorkSweeps {
  const kinds = specs.map(({ kind }) => kind);
  const runningMax = runningMaxOf(specs);
  return {
    expired: async (kind, signal) => {
      const schema = z.object({ recovered: z.number(), ended: z.number() });
      const args = { p_kind: kind, p_limit: SWEEP_ITEMS };
      return parseWorkReply(schema, await rpc("work_sweep_expired", args, signal));
    },
    lost: async (signal) => {
      const args = { p_kinds: kinds, p_limit: SWEEP_ITEMS };
      return parseWorkReply(WakeupsSchema, await rpc("work_sweep_lost", args, signal));
    },
    waiting: async (after, signal) => {
      const schema = z.object({ send: WakeupsSchema, next: z.array(Text).nullable() });
      const args = { p_running_max: runningMax, p_after: after ?? null, p_limit: SWEEP_TENANTS };
      const reply = parseWorkReply(schema, await rpc("work_sweep_waiting", args, signal));
      return { send: reply.send, next: reply.next ?? undefined };
    },
    unsettled: async (signal) => {
      const args = { p_kinds: kinds, p_limit: SETTLE_ITEMS };
      return parseWorkReply(z.array(EndedSchema), await rpc("work_sweep_unsettled", args, signal));
    },
  };
}
