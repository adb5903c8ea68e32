import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { RunLedger } from "./dispatch-shards.ts";
import type { Booking, UsageLedger } from "./drain-shard.ts";
import type { DecodedBatch, UseEntry } from "./log-entry.ts";
import type { ShardReports } from "./reconcile-shard.ts";

const Amount = z.string().regex(/^-?\d+$/);
export const CursorRow = z.object({
  inc: z.string(),
  n: Amount,
  cum: Amount.nullable(),
  count: Amount.nullable(),
  anchor: z.string().nullable(),
});
const LeaseReply = z.discriminatedUnion("status", [
  CursorRow.extend({ status: z.literal("ok"), fence: Amount }),
  z.object({ status: z.literal("busy") }),
]);
const ApplyReply = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("applied"),
    applied: z.int(),
    dup: z.int(),
    tokens: Amount,
    trim: Amount.nullable(),
  }),
  z.object({ status: z.literal("stale") }),
  z.object({ status: z.literal("fenced") }),
]);
const ForkReply = z.object({ status: z.enum(["ok", "stale"]) });
const CursorList = z.array(
  CursorRow.omit({ anchor: true }).extend({ shard: z.int(), trim: Amount.nullable() }),
);

/** What the database answers is untrusted input like any other. */
export function parseRow<T extends z.ZodType>(schema: T, row: unknown, what: string): z.output<T> {
  const parsed = schema.safeParse(row);
  if (parsed.success) return parsed.data;
  throw new AppError("bug", "database_reply_unexpected", {
    details: { what },
    cause: parsed.error,
  });
}

export const toCursor = ({ inc, n, cum, count, anchor }: z.output<typeof CursorRow>) => ({
  inc,
  n,
  cum,
  count,
  anchor,
});

/** The ledger over PostgREST: one call, one transaction. */
export const usageLedger = (rpc: Rpc): UsageLedger => ({
  lease: async (shard, owner, ttlMs, signal) => {
    const args = { p_shard: shard, p_owner: owner, p_ttl_ms: ttlMs };
    const reply = parseRow(LeaseReply, await rpc("usage_lease_shard", args, signal), "lease");
    return reply.status === "busy" ? undefined : { fence: reply.fence, cursor: toCursor(reply) };
  },

  release: async (shard, fence, signal) => {
    await rpc("usage_release_shard", { p_shard: shard, p_fence: fence }, signal);
  },

  cursor: async (shard, signal) => {
    const row = await rpc("usage_shard_state", { p_shard: shard }, signal);
    return toCursor(parseRow(CursorRow, row, "cursor"));
  },

  book: async (booking, signal) => {
    const reply = await rpc("usage_apply_batch", bookingArgs(booking), signal);
    const { status, ...rest } = parseRow(ApplyReply, reply, "apply");
    return status === "applied" ? { kind: status, ...(rest as AppliedRest) } : { kind: status };
  },

  fork: async ({ shard, oldInc, newInc, cause, surviving }, signal) => {
    const args = {
      p_shard: shard,
      p_old_inc: oldInc,
      p_new_inc: newInc,
      p_cause: cause,
      p_surviving_n: surviving.n,
      p_surviving_cum: surviving.cum,
    };
    return parseRow(ForkReply, await rpc("usage_fork_shard", args, signal), "fork").status === "ok";
  },

  markTrimmed: async (shard, inc, n, signal) => {
    await rpc("usage_mark_trimmed", { p_shard: shard, p_inc: inc, p_n: n }, signal);
  },
});

type AppliedRest = Omit<Extract<z.output<typeof ApplyReply>, { status: "applied" }>, "status">;

export const shardReports = (rpc: Rpc): ShardReports => ({
  report: async ({ runId, shard, state, errorCode }, signal) => {
    const args = { p_run: runId, p_shard: shard, p_state: state, p_error: errorCode ?? null };
    await rpc("usage_report_shard", args, signal);
  },

  finish: async ({ runId, shard, state, errorCode }, fence, signal) => {
    const args = {
      p_run: runId,
      p_shard: shard,
      p_fence: fence,
      p_state: state,
      p_error: errorCode ?? null,
    };
    await rpc("usage_finish_shard", args, signal);
  },
});

export const runLedger = (rpc: Rpc): RunLedger => ({
  readCursors: async (retainHours, signal) => {
    const rows = await rpc("usage_read_cursors", { p_retain_hours: retainHours }, signal);
    return parseRow(CursorList, rows, "cursors");
  },

  startRun: async ({ runId, job, trigger, shards, isTrackingEnabled }, signal) => {
    const args = {
      p_run: runId,
      p_job: job,
      p_trigger: trigger,
      p_shards: shards,
      p_tracking: isTrackingEnabled,
    };
    await rpc("usage_start_run", args, signal);
  },

  ensureDays: async (fromMs, toMs, signal) => {
    const args = { p_from: dateOf(fromMs), p_to: dateOf(toMs) };
    await rpc("usage_ensure_days", args, signal);
  },
});

const dateOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

function bookingArgs({ shard, fence, from, batch, ...rest }: Booking): Record<string, unknown> {
  return {
    p_shard: shard,
    p_fence: fence,
    p_inc: from.inc,
    p_prev_n: from.n,
    p_to_n: batch.end.n,
    p_cum: batch.end.cum,
    p_count: batch.end.count,
    p_anchor: batch.end.anchor,
    ...columnsOf(batch.uses),
    ...besidesOf(batch),
    p_worker: rest.worker,
    p_run: rest.runId,
    p_retain_hours: rest.retainHours,
  };
}

/**
 * One array per column, as the text that Postgres reads arrays from: a list of thousands of JSON values costs everybody
 * on the way more than the records are worth, and one text next to nothing.
 */
function columnsOf(uses: readonly UseEntry[]): Record<string, unknown> {
  const dims: [string, string][] = [];
  const dimIndex = new Map<string, number>();
  const indexOf = ({ type, model }: UseEntry): number => {
    const key = `${type}|${model}`;
    const known = dimIndex.get(key);
    if (known !== undefined) return known;
    dimIndex.set(key, dims.push([type, model]) - 1);
    return dims.length - 1;
  };
  return {
    p_uid: arrayText(uses, ({ uid }) => uid),
    p_tenant: arrayText(uses, ({ tenant }) => quoted(tenant)),
    p_period: arrayText(uses, ({ period }) => String(period)),
    p_bill: billColumn(uses),
    p_day: arrayText(uses, ({ day }) => String(day)),
    p_tokens: arrayText(uses, ({ tokens }) => tokens),
    p_dim: arrayText(uses, (use) => String(indexOf(use))),
    p_dims: dims,
    p_agent: textColumn(uses, ({ agent }) => agent),
    p_conversation: textColumn(uses, ({ conversation }) => conversation),
  };
}

/** Null when nothing claims to lie ahead, which is nearly always. */
const billColumn = (uses: readonly UseEntry[]): string | null =>
  uses.some((use) => use.billPeriod !== use.period)
    ? arrayText(uses, ({ billPeriod }) => String(billPeriod))
    : null;

/** Null when no entry has a value: half the columns of most producers. */
const textColumn = (uses: readonly UseEntry[], of: (use: UseEntry) => string): string | null =>
  uses.some((use) => of(use) !== "")
    ? arrayText(uses, (use) => (of(use) === "" ? "NULL" : quoted(of(use))))
    : null;

function arrayText(uses: readonly UseEntry[], of: (use: UseEntry) => string): string {
  let text = "";
  for (const use of uses) text += text === "" ? of(use) : `,${of(use)}`;
  return `{${text}}`;
}

const NEEDS_ESCAPE = /["\\]/g;
const quoted = (text: string): string => `"${text.replace(NEEDS_ESCAPE, "\\$&")}"`;

function besidesOf({ uses, bad, markers }: DecodedBatch): Record<string, unknown> {
  return {
    p_bad: bad,
    p_markers: markers.map((marker) => ({
      oi: marker.oldInc,
      ln: marker.lastN,
      lc: marker.lastCum,
      cn: marker.survivingN,
      cc: marker.survivingCum,
      n: marker.n,
    })),
    p_replay: uses
      .filter((use) => use.replayOf !== "")
      .map(({ uid, day, replayOf }) => ({ uid, day, oi: replayOf })),
  };
}
