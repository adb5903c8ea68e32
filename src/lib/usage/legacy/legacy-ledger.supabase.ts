import { z } from "zod";
import type { Rpc } from "../../runtime/rpc.supabase.ts";
import type { UseEntry } from "../log-entry.ts";
import { shardOf } from "../usage-keys.ts";
import { parseRow } from "../usage-ledger.supabase.ts";
import type { Comparison } from "./classify-drift.ts";
import { intervalOf } from "./classify-drift.ts";
import type { LegacyRuns } from "./drain-legacy.ts";
import type { PendingLedger } from "./drain-pending.ts";
import type { BadMember } from "./pending-record.ts";
import type { CounterMove } from "./plan-counters.ts";
import type { CounterLedger } from "./poll-counters.ts";

const Amount = z.string().regex(/^-?\d+$/);
const BookedRow = z.object({ applied: z.int(), dup: z.int(), bad: z.int(), tokens: Amount });
const CounterRow = z.object({ key: z.string(), seen: Amount, generation: z.int() });
const FoundRow = z.object({ based: z.boolean(), counters: z.array(CounterRow) });
const SidesRow = z.object({
  tenant: z.string(),
  direct: Amount,
  pending: Amount,
  grown: Amount,
  comparedDirect: Amount,
  comparedPending: Amount,
  comparedGrown: Amount,
  apart: Amount,
  cause: z.string().nullable(),
  setAside: z.int(),
});
const ListRow = z.object({
  based: z.boolean(),
  counters: z.array(CounterRow.extend({ tenant: z.string() })),
  tenants: z.array(SidesRow),
});
const MovedRow = z.object({ moved: z.int(), stale: z.int() });
const SummaryRow = z.object({
  status: z.string(),
  booked: z.int(),
  duplicates: z.int(),
  setAside: z.int(),
  tokens: Amount,
  counters: z.string(),
  grown: Amount,
  counterTokens: Amount,
  resets: z.int(),
  drifts: z.int(),
  tenantsApart: z.int(),
  worst: z.array(z.object({ tenant: z.string(), apart: Amount, cause: z.string().nullable() })),
});

/** Books what the pending set holds. */
export const pendingLedger = (rpc: Rpc): PendingLedger => ({
  book: async (runId, { uses, bad }, signal) => {
    const args = { p_run: runId, ...columnsOf(uses), p_bad: bad.map(toBadRow) };
    return parseRow(BookedRow, await rpc("usage_legacy_book_pending", args, signal), "pending");
  },
});

/** What is remembered of the counters, and their comparison. */
export const counterLedger = (rpc: Rpc): CounterLedger => ({
  find: async (scope, keys, signal) => {
    const args = { p_scope: scope, p_keys: keys };
    const row = await rpc("usage_legacy_read_counters", args, signal);
    const { based, counters } = parseRow(FoundRow, row, "counters");
    return { isBased: based, counters };
  },

  list: async (scope, { tenant, key }, max, signal) => {
    const args = { p_scope: scope, p_after_tenant: tenant, p_after_key: key, p_limit: max };
    const row = await rpc("usage_legacy_list_counters", args, signal);
    const { based, counters, tenants } = parseRow(ListRow, row, "counters");
    return { isBased: based, counters, tenants };
  },

  move: async (runId, scope, moves, comparisons, signal) => {
    const args = {
      p_run: runId,
      p_scope: scope,
      p_moves: moves.map(toMoveRow),
      p_compared: comparisons.map(toComparedRow),
    };
    return parseRow(MovedRow, await rpc("usage_legacy_move_counters", args, signal), "moves");
  },
});

export const legacyRuns = (rpc: Rpc): LegacyRuns => ({
  start: async (runId, isTrackingEnabled, signal) => {
    const args = { p_run: runId, p_tracking: isTrackingEnabled };
    await rpc("usage_legacy_start_run", args, signal);
  },

  finish: async ({ runId, status, counters, scope, errorCode, apartOver }, signal) => {
    const args = {
      p_run: runId,
      p_status: status,
      p_counters: counters ?? null,
      p_scope: scope ?? null,
      p_error: errorCode ?? null,
      p_apart: String(apartOver ?? 0),
    };
    return parseRow(SummaryRow, await rpc("usage_legacy_finish_run", args, signal), "run");
  },
});

function columnsOf(uses: readonly UseEntry[]): Record<string, unknown> {
  const isMoved = uses.some((use) => use.billPeriod !== use.period);
  return {
    p_uid: uses.map((use) => use.uid),
    p_tenant: uses.map((use) => use.tenant),
    p_shard: uses.map((use) => shardOf(use.tenant)),
    p_period: uses.map((use) => use.period),
    p_day: uses.map((use) => use.day),
    p_tokens: uses.map((use) => use.tokens),
    p_type: uses.map((use) => use.type),
    p_model: uses.map((use) => use.model),
    p_bill: isMoved ? uses.map((use) => use.billPeriod) : null,
    p_agent: uses.map((use) => use.agent || null),
    p_conversation: uses.map((use) => use.conversation || null),
  };
}

/** Whose shard is not known goes to the first. */
const toBadRow = ({ raw, error, tenant, period, tokens }: BadMember) => ({
  raw,
  error,
  tenant,
  period,
  tokens,
  shard: tenant === null ? 0 : shardOf(tenant),
});

const toMoveRow = (move: CounterMove) => ({
  key: move.counter.key,
  tenant: move.counter.tenant,
  shard: shardOf(move.counter.tenant),
  kind: move.kind,
  cause: move.kind === "gap" ? move.cause : null,
  seen: move.known?.seen ?? null,
  generation: move.known?.generation ?? null,
  value: move.value,
  books: move.books,
  uid: move.uid,
  period: move.period,
  day: move.day,
  type: move.counter.type,
  model: move.counter.model,
  agent: move.counter.agent || null,
  conversation: move.counter.conversation || null,
});

function toComparedRow({ sides, apart, cause, drift }: Comparison): Record<string, unknown> {
  const { grown, direct, pending } = intervalOf(sides);
  const interval = { grown: `${grown}`, direct: `${direct}`, pending: `${pending}` };
  return {
    tenant: sides.tenant,
    grown: sides.grown,
    direct: sides.direct,
    pending: sides.pending,
    was_grown: sides.comparedGrown,
    was_direct: sides.comparedDirect,
    was_pending: sides.comparedPending,
    apart,
    cause,
    drift: drift?.tokens ?? null,
    drift_cause: drift?.cause ?? null,
    evidence: { ...interval, apartBefore: sides.apart, apart, setAside: sides.setAside },
  };
}
