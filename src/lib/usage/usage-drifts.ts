import { permanent } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import { type ConsolidationDispatchDeps, dispatchConsolidation } from "./consolidate-dispatch.ts";

/** A difference between a counter and the ledger. Ids and amounts are decimal strings. */
export interface Drift {
  readonly id: string;
  readonly runId: string;
  readonly lastRunId: string;
  readonly shard: number;
  readonly tenant: string;
  readonly period: number;
  readonly lineage: string;
  readonly n: string;
  readonly redis: string | null;
  readonly used: string;
  readonly drift: string;
  readonly cause: string;
  readonly repair: string;
  readonly state: string;
  readonly evidence: Record<string, unknown>;
  readonly decisions: DriftDecision[];
  readonly detectedAt: string;
  readonly seenAt: string;
  readonly repairedAt: string | null;
}

export interface DriftDecision {
  readonly decision: string;
  readonly repair: string;
  readonly who: string;
  readonly why: string;
  readonly at: string;
}

export interface DriftFilter {
  readonly period?: number | undefined;
  readonly tenant?: string | undefined;
  /** One state, or `open`: what waits for somebody. */
  readonly state?: string | undefined;
  readonly run?: string | undefined;
  readonly cause?: string | undefined;
  /** Id of the last row of the page before. */
  readonly before?: string | undefined;
  readonly limit: number;
}

export interface DriftPage {
  readonly rows: readonly Drift[];
  readonly next: string | null;
}

export interface DriftVerdict {
  readonly decision: "approved" | "rejected";
  /** Undefined = as proposed. */
  readonly repair?: "counter" | "ledger" | "total" | undefined;
  readonly who: string;
  readonly reason: string;
}

export type DecidedDrift =
  | { readonly kind: "decided"; readonly drift: Drift }
  | { readonly kind: "not_held"; readonly state: string }
  | { readonly kind: "repairing" | "unknown" }
  | { readonly kind: "repair_refused"; readonly repair: string };

export interface DriftLedger {
  list(filter: DriftFilter, signal: AbortSignal): Promise<DriftPage>;
  decide(id: string, verdict: DriftVerdict, signal: AbortSignal): Promise<DecidedDrift>;
  /** Everything of a run that is held, as proposed. */
  approveRun(
    approval: {
      readonly run: string;
      readonly cause?: string | undefined;
      readonly who: string;
      readonly reason: string;
    },
    signal: AbortSignal,
  ): Promise<{ readonly approved: number; readonly shards: readonly number[] }>;
}

export interface DriftDeps extends ConsolidationDispatchDeps {
  readonly driftLedger: DriftLedger;
}

/**
 * Writes a person's decision down; what was approved is done at once, by a consolidation of its shard. Safe to repeat:
 * the difference is repaired once, and a decision that was written before its message could be sent is acted on by the
 * next consolidation.
 *
 * @throws AppError `usage_drift_unknown`, `usage_drift_not_held`, `usage_drift_repair_refused`
 */
export async function decideDrift(
  deps: DriftDeps,
  id: string,
  verdict: DriftVerdict,
  run: Run,
): Promise<{ readonly drift: Drift; readonly runId: string | null }> {
  const decided = await deps.driftLedger.decide(id, verdict, run.signal);
  run.note({ driftId: id, decided: decided.kind, decision: verdict.decision });
  if (decided.kind !== "decided") throw refusal(decided);
  const { drift } = decided;
  if (verdict.decision === "rejected") return { drift, runId: null };
  const { runId } = await consolidateNow(deps, [drift.shard], run);
  return { drift, runId };
}

/** The same for everything of a run that is held, as proposed. */
export async function approveRun(
  deps: DriftDeps,
  approval: Parameters<DriftLedger["approveRun"]>[0],
  run: Run,
): Promise<{ readonly approved: number; readonly runId: string | null }> {
  const { approved, shards } = await deps.driftLedger.approveRun(approval, run.signal);
  run.note({ approved });
  if (shards.length === 0) return { approved, runId: null };
  const { runId } = await consolidateNow(deps, shards, run);
  return { approved, runId };
}

const consolidateNow = (deps: DriftDeps, shards: readonly number[], run: Run) =>
  dispatchConsolidation(deps, { trigger: "manual", apply: true, shards }, run);

function refusal(decided: Exclude<DecidedDrift, { kind: "decided" }>): Error {
  switch (decided.kind) {
    case "unknown":
      return permanent("usage_drift_unknown");
    case "repairing":
      return permanent("usage_drift_not_held", { reason: "its repair is under way" });
    case "not_held":
      return permanent("usage_drift_not_held", { reason: `it is in the state ${decided.state}` });
    default: {
      const reason = `a difference of this cause cannot be repaired by "${decided.repair}"`;
      return permanent("usage_drift_repair_refused", { reason });
    }
  }
}
