import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { PRIORITIES, type WorkSpec } from "./work.ts";
import { parseWorkReply, runningMaxOf, WakeupsSchema } from "./work-ledger.supabase.ts";
import type { Wakeup } from "./work-ports.ts";

export const STATES = ["queued", "running", "retrying", "succeeded", "dead", "cancelled"] as const;
export type WorkState = (typeof STATES)[number];

const Instant = z.string().nullable();
const Code = z.string().nullable();

export const WorkItemSchema = z.object({
  id: z.string(),
  seq: z.string().describe("Order of acceptance; pages go by it."),
  kind: z.string(),
  version: z.number(),
  tenant: z.string(),
  priority: z.enum(PRIORITIES),
  state: z.enum(STATES),
  attempts: z.number(),
  failures: z.number().describe("Attempts whose handler failed."),
  crashes: z.number().describe("Attempts whose worker vanished; the third is the last."),
  maxAttempts: z.number(),
  replays: z.number(),
  code: Code.describe("Why it failed last, or why it is dead."),
  error: z.string().nullable(),
  dueAt: z.string().describe("Not before; while it retries, the next attempt."),
  createdAt: z.string(),
  updatedAt: z.string(),
  startedAt: Instant,
  finishedAt: Instant,
  requestedBy: z.string(),
  dedupeKey: z.string().nullable(),
});

const AttemptSchema = z.object({
  fence: z.string(),
  attempt: z.number(),
  worker: z.string(),
  startedAt: z.string(),
  endedAt: Instant,
  outcome: z
    .enum(["succeeded", "retrying", "dead", "cancelled", "crashed", "released"])
    .nullable()
    .describe("null: works"),
  code: Code,
  error: z.string().nullable(),
});

export const WorkStorySchema = WorkItemSchema.extend({
  payload: z.unknown(),
  result: z.unknown(),
  progress: z.unknown(),
  evidence: z.unknown(),
  fence: z.string(),
  staleWrites: z.number().describe("Endings refused because somebody else had the item."),
  cancelRequestedAt: Instant,
  cancelledBy: z.string().nullable(),
  cancelReason: z.string().nullable(),
  leaseUntil: Instant,
  sentAt: Instant,
  isDue: z.boolean(),
  isLeaseOver: z.boolean(),
  sentSeconds: z.number().nullable(),
  runningOfTenant: z.number(),
  history: z.array(AttemptSchema).describe("The last 50 attempts."),
  replayIds: z.array(z.string()).describe("The last 20 replays it was part of."),
});

const Page = z.object({ rows: z.array(WorkItemSchema), next: z.string().nullable() });

export const AccountingSchema = z.object({
  accepted: z.string(),
  succeeded: z.string(),
  dead: z.string(),
  cancelled: z.string(),
  queued: z.string(),
  running: z.string(),
  retrying: z.string(),
  unaccounted: z.string().describe("accepted − all others: 0, or something is wrong."),
  crashes: z.string(),
  staleWrites: z.string(),
});

export const WorkStatsSchema = z.object({
  accounting: AccountingSchema,
  groups: z.array(
    z.object({
      kind: z.string(),
      priority: z.enum(PRIORITIES),
      queued: z.number(),
      running: z.number(),
      retrying: z.number(),
      waiting: z.number().describe("Have no message yet: their tenant's turn comes later."),
      oldestSeconds: z.number().describe("Age of the oldest item that could run."),
      expired: z.number().describe("Run past their lease."),
    }),
  ),
  kinds: z.array(
    z.object({
      kind: z.string(),
      accepted: z.string(),
      succeeded: z.string(),
      dead: z.string(),
      cancelled: z.string(),
    }),
  ),
});

const Outcome = z.enum(["moved", "not_dead", "duplicate", "not_replayable", "unknown"]);

export const ReplaySchema = z.object({
  replayId: z.string().nullable().describe("Of the receipt; null on a dry run."),
  moved: z.number(),
  skipped: z.number(),
  items: z.array(
    z.object({ id: z.string(), kind: z.string().nullable(), outcome: Outcome, dueAt: Instant }),
  ),
  isMore: z.boolean().describe("The filter fits more than these: ask again."),
});

export const ReceiptSchema = z.object({
  replayId: z.string(),
  actor: z.string(),
  reason: z.string(),
  filter: z.unknown(),
  perSecond: z.number(),
  moved: z.number(),
  skipped: z.number(),
  createdAt: z.string(),
  items: z.array(
    z.object({
      id: z.string(),
      outcome: Outcome,
      dueAt: Instant,
      state: z.enum(STATES).nullable().describe("Where it is now; null when it was cleaned up."),
    }),
  ),
});

const CancelReply = z.discriminatedUnion("outcome", [
  z.object({ outcome: z.literal("unknown") }),
  z.object({
    outcome: z.enum(["cancelled", "requested", "already_requested", "ended"]),
    state: z.enum(STATES),
    kind: z.string(),
    version: z.number(),
    payload: z.unknown(),
    send: z.array(WakeupsSchema.element.omit({ kind: true })),
  }),
]);

export interface WorkFilter {
  readonly state?: WorkState | undefined;
  readonly kind?: string | undefined;
  readonly tenant?: string | undefined;
  readonly code?: string | undefined;
  readonly search?: string | undefined;
  /** Accepted in [since, until). */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  /** `seq` of the last row of the page before. */
  readonly before?: string | undefined;
  readonly limit: number;
}

export interface Decision {
  readonly who: string;
  readonly reason: string;
}

export interface ReplayOrder {
  /** Undefined: what the filter fits. */
  readonly ids?: readonly string[] | undefined;
  readonly filter: {
    readonly kind?: string | undefined;
    readonly tenant?: string | undefined;
    readonly code?: string | undefined;
    readonly until?: string | undefined;
  };
  readonly limit: number;
  readonly perSecond: number;
  readonly isDryRun: boolean;
}

export type Cancelled =
  | { readonly outcome: "unknown" }
  | {
      readonly outcome: "cancelled" | "requested" | "already_requested" | "ended";
      readonly state: WorkState;
      readonly send: readonly Wakeup[];
    };

/** What people see of the work queue. */
export interface WorkReads {
  find(id: string, signal: AbortSignal): Promise<z.output<typeof WorkStorySchema> | undefined>;
  list(filter: WorkFilter, signal: AbortSignal): Promise<z.output<typeof Page>>;
  stats(signal: AbortSignal): Promise<z.output<typeof WorkStatsSchema>>;
  receipt(id: string, signal: AbortSignal): Promise<z.output<typeof ReceiptSchema> | undefined>;
}

/** What people change in it; each change is in the audit log. */
export interface WorkOffice {
  cancel(id: string, decision: Decision, signal: AbortSignal): Promise<Cancelled>;
  replay(
    order: ReplayOrder,
    decision: Decision,
    signal: AbortSignal,
  ): Promise<z.output<typeof ReplaySchema>>;
}

export const workReads = (rpc: Rpc): WorkReads => ({
  find: async (id, signal) => {
    const reply = await rpc("work_read", { p_id: id }, signal);
    return parseWorkReply(WorkStorySchema.nullable(), reply) ?? undefined;
  },
  list: async ({ state, kind, tenant, code, search, since, until, before, limit }, signal) => {
    const args = {
      p_state: state ?? null,
      p_kind: kind ?? null,
      p_tenant: tenant ?? null,
      p_code: code ?? null,
      p_search: search ?? null,
      p_since: since ?? null,
      p_until: until ?? null,
      p_before: before ?? null,
      p_limit: limit,
    };
    return parseWorkReply(Page, await rpc("work_list", args, signal));
  },
  stats: async (signal) => parseWorkReply(WorkStatsSchema, await rpc("work_stats", {}, signal)),
  receipt: async (id, signal) => {
    const reply = await rpc("work_read_replay", { p_id: id }, signal);
    return parseWorkReply(ReceiptSchema.nullable(), reply) ?? undefined;
  },
});

export function workOffice(rpc: Rpc, specs: readonly WorkSpec[]): WorkOffice {
  const runningMax = runningMaxOf(specs);
  return {
    cancel: async (id, { who, reason }, signal) => {
      const args = { p_id: id, p_who: who, p_reason: reason, p_running_max: runningMax };
      const reply = parseWorkReply(CancelReply, await rpc("work_cancel", args, signal));
      if (reply.outcome === "unknown") return reply;
      const { outcome, state, kind } = reply;
      return { outcome, state, send: reply.send.map((turn) => ({ ...turn, kind })) };
    },
    replay: async ({ ids, filter, limit, perSecond, isDryRun }, { who, reason }, signal) => {
      const args = {
        p_ids: ids ?? null,
        p_filter: filter,
        p_limit: limit,
        p_per_second: perSecond,
        p_dry_run: isDryRun,
        p_known: Object.keys(runningMax),
        p_actor: who,
        p_reason: reason,
      };
      return parseWorkReply(ReplaySchema, await rpc("work_replay", args, signal));
    },
  };
}
