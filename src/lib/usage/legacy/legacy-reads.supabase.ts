import { z } from "zod";
import type { Rpc } from "../../runtime/rpc.supabase.ts";
import type { UseEntry } from "../log-entry.ts";
import { parseRow } from "../usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);

const LaneRow = z.object({
  lane: z.string(),
  uses: z.int(),
  duplicates: z.int(),
  tokens: Amount,
  lastDay: z.string(),
});
export const LegacyRunSchema = z.object({
  runId: z.string(),
  status: z.enum(["running", "succeeded", "failed"]),
  isTrackingEnabled: z.boolean(),
  booked: z.int().describe("Records of the pending set that were booked."),
  duplicates: z.int(),
  setAside: z.int(),
  tokens: Amount,
  counters: z.enum(["waiting", "off", "compared", "cluster"]),
  grown: Amount.describe("What the counters grew by."),
  counterTokens: Amount.describe("Part of grown that was booked."),
  resets: z.int(),
  drifts: z.int(),
  errorCode: z.string().nullable(),
  startedAt: z.string(),
  finishedAt: z.string().nullable(),
});
export const LegacyFindingSchema = z.object({
  id: z.string(),
  runId: z.string().nullable(),
  kind: z.enum(["drift", "gap"]),
  tenant: z.string(),
  cause: z.string(),
  tokens: Amount.describe(
    "Counted minus booked since the comparison before; of a gap, the fall or jump.",
  ),
  evidence: z.record(z.string(), z.unknown()),
  detectedAt: z.string(),
});
export const TenantApartSchema = z.object({
  tenant: z.string(),
  apart: Amount.describe("Counted and not booked so far; negative: booked and not counted."),
  cause: z.string().nullable(),
  direct: Amount,
  pending: Amount,
  counter: Amount,
  grown: Amount,
  comparedAt: z.string().nullable(),
});
const StateRow = z.object({
  days: z.int(),
  lanes: z.array(LaneRow),
  runs: z.array(LegacyRunSchema),
  findings: z.array(LegacyFindingSchema),
  tenants: z.array(TenantApartSchema),
  counters: z.int(),
});
export type LegacyState = z.output<typeof StateRow>;

const AcceptedRow = z.discriminatedUnion("status", [
  z.object({ status: z.literal("accepted"), apart: Amount }),
  z.object({ status: z.literal("nothing") }),
]);

export interface LegacyReads {
  /** @param limit rows of each list, 1 to 200. */
  state(limit: number, signal: AbortSignal): Promise<LegacyState>;
  /** Ids of those that are booked already; at most 5000 uses. */
  bookedOf(uses: readonly UseEntry[], signal: AbortSignal): Promise<ReadonlySet<string>>;
  /** Ends what a tenant is apart, by decision of a person; undefined = it is not. */
  acceptDrift(
    tenant: string,
    decision: { readonly who: string; readonly reason: string },
    signal: AbortSignal,
  ): Promise<string | undefined>;
}

export const legacyReads = (rpc: Rpc): LegacyReads => ({
  state: async (limit, signal) => {
    const row = await rpc("usage_legacy_read_state", { p_limit: limit }, signal);
    return parseRow(StateRow, row, "legacy state");
  },

  bookedOf: async (uses, signal) => {
    if (uses.length === 0) return new Set();
    const args = { p_uid: uses.map(({ uid }) => uid), p_day: uses.map(({ day }) => day) };
    const row = await rpc("usage_legacy_find_events", args, signal);
    return new Set(parseRow(z.array(z.string()), row, "legacy events"));
  },

  acceptDrift: async (tenant, { who, reason }, signal) => {
    const args = { p_tenant: tenant, p_who: who, p_reason: reason };
    const row = await rpc("usage_legacy_accept_drift", args, signal);
    const accepted = parseRow(AcceptedRow, row, "accepted drift");
    return accepted.status === "accepted" ? accepted.apart : undefined;
  },
});
