import { z } from "zod";
import { AppError, invariant } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { coalesce } from "./coalesce.ts";
import { PRIORITIES, type WorkSpec } from "./work.ts";
import type { NewItem, Settlement, WorkBooks, WorkClaims, WorkSweeps } from "./work-ports.ts";

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

/** Claims and endings of one process that come at the same time share a round trip. */
const BATCH_MAX = 32;

export function workClaims(rpc: Rpc, options: WorkLedgerOptions): WorkClaims {
  const byKind = new Map(
    options.specs.map((spec) => [spec.kind, claimsOfKind(rpc, spec, options)]),
  );
  const of = (kind: string) => {
    const claims = byKind.get(kind);
    invariant(claims !== undefined, "only kinds of this process are claimed");
    return claims;
  };
  return {
    claim: async (id, kind, signal) => {
      const reply = await of(kind).claim(id, signal);
      if (reply.outcome === "claimed") return { outcome: "claimed", item: reply };
      if (reply.outcome !== "ended") return reply;
      return { outcome: "ended", item: reply, send: withKind(reply.kind, reply.send) };
    },

    heartbeat: async ({ id, fence, kind }, progress, signal) => {
      const args = {
        p_id: id,
        p_fence: fence,
        p_lease_ms: of(kind).spec.leaseMs,
        p_progress: progress ?? null,
      };
      const schema = z.object({ isHeld: z.boolean(), isCancelled: z.boolean() });
      return parseWorkReply(schema, await rpc("work_heartbeat", args, signal));
    },

    settle: async ({ id, fence, kind }, settlement, hasSettle, signal) => {
      const ending = { ...settlement, id, fence, hasSettle, random: options.random() };
      const reply = await of(kind).settle(ending, signal);
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

interface Ending extends Settlement {
  readonly id: string;
  readonly fence: number;
  readonly hasSettle: boolean;
  readonly random: number;
}

/** The rpc has a deadline of its own; a caller that gives up does not stop what travels for others. */
const NEVER = new AbortController().signal;

function claimsOfKind(rpc: Rpc, spec: WorkSpec, { worker, random }: WorkLedgerOptions) {
  const claims = async (ids: readonly string[]) => {
    const args = {
      p_ids: ids,
      p_worker: worker,
      p_lease_ms: spec.leaseMs,
      p_running_max: spec.runningPerTenantMax,
      p_randoms: ids.map(random),
    };
    return parseWorkReply(z.array(ClaimReply), await rpc("work_claim_many", args, NEVER));
  };
  const settlements = async (endings: readonly Ending[]) => {
    const rows = endings.map(({ delayMs = 0, ...ending }) => ({
      ...ending,
      delayMs: Math.ceil(delayMs),
    }));
    const args = { p_settlements: rows, p_running_max: spec.runningPerTenantMax };
    return parseWorkReply(z.array(SettleReply), await rpc("work_settle_many", args, NEVER));
  };
  return { spec, claim: coalesce(claims, BATCH_MAX), settle: coalesce(settlements, BATCH_MAX) };
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
