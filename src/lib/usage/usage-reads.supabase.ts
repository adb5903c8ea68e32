import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);

export const BookedTotalSchema = z.object({
  tokens: Amount.describe("Billed in this period."),
  used: Amount.describe("Happened in this period, whenever it is billed."),
  legacy: Amount.describe("Part of used that came through a legacy lane: no counter knows it."),
  events: Amount,
  late: Amount.describe("Part of tokens that happened in another period."),
  adjusted: Amount.describe("Part of tokens that comes from corrections."),
  quarantined: z.int(),
  updatedAt: z.string().nullable(),
  breakdown: z.array(
    z.object({ type: z.string(), model: z.string(), tokens: Amount, events: Amount }),
  ),
});
export type BookedTotal = z.output<typeof BookedTotalSchema>;

export const RunProgressSchema = z.object({
  runId: z.string(),
  job: z.string(),
  trigger: z.string(),
  status: z.enum(["planned", "running", "succeeded", "failed"]),
  isTrackingEnabled: z.boolean(),
  startedAt: z.string(),
  finishedAt: z.string().nullable(),
  shardsPlanned: z.int(),
  shardsDone: z.int(),
  shardsFailed: z.int(),
  recordsPending: z.int(),
  recordsApplied: z.int(),
  duplicates: z.int(),
  quarantined: z.int(),
  tokens: Amount,
  percent: z.number(),
  recordsPerSecond: z.number().nullable(),
  etaSeconds: z.number().nullable(),
});
export type RunProgress = z.output<typeof RunProgressSchema>;

export interface UsageReads {
  /** What the ledger holds for a tenant and period; zeros when it knows neither. */
  total(tenant: string, period: number, signal: AbortSignal): Promise<BookedTotal>;
  /** Newest first. */
  runs(limit: number, signal: AbortSignal): Promise<readonly RunProgress[]>;
  run(runId: string, signal: AbortSignal): Promise<RunProgress | undefined>;
}

export const usageReads = (rpc: Rpc): UsageReads => ({
  total: async (tenant, period, signal) => {
    const row = await rpc("usage_read_total", { p_tenant: tenant, p_period: period }, signal);
    return parseRow(BookedTotalSchema, row, "total");
  },
  runs: async (limit, signal) => {
    const rows = await rpc("usage_read_runs", { p_limit: limit }, signal);
    return parseRow(z.array(RunProgressSchema), rows, "runs");
  },
  run: async (runId, signal) => {
    const row = await rpc("usage_read_run", { p_run: runId }, signal);
    return parseRow(RunProgressSchema.nullable(), row, "run") ?? undefined;
  },
});
