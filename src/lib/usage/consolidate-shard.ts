import { randomUUID } from "node:crypto";
import { invariant } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { ConsolidationMessage } from "./consolidate-message.ts";
import { type DrainDeps, drainShard } from "./drain-shard.ts";
import {
  type Correction,
  type CounterSnapshot,
  countedPeriods,
  cutOf,
  digestsOf,
} from "./plan-consolidation.ts";
import type { Cursor, Cut } from "./plan-step.ts";
import type { ShardReports } from "./reconcile-shard.ts";

/** Producers and other workers may move the log and the cursor between two calls; then it starts again. */
const ATTEMPTS_MAX = 20;
const BUSY_DELAY_SECONDS = 60;
const BUSY_MAX = 10;
/**
 * Drift of single tenants is noise; of many at once it is a fault with one cause, and correcting thousands of counters
 * by it would spread the fault. Ten, so that a shard with few tenants is not held for one of them.
 */
const MANY_TENANTS_MIN = 10;
const MANY_TENANTS_SHARE = 0.01;
/** Counters of one script call: about 2 MB of arguments and 20 ms of Redis. */
const CORRECTIONS_MAX = 20_000;

/** The counters of one shard, in Redis. */
export interface ShardCounters {
  /** Counters of the periods, the head and the end of the log, in one instant. */
  read(
    shard: number,
    periods: readonly number[],
    signal: AbortSignal,
  ): Promise<CounterSnapshot & { readonly foreign: number }>;
  /** Compare-and-swap on epoch and lineage; false = another repair or lineage came between, nothing was changed. */
  repair(repair: CounterRepair, signal: AbortSignal): Promise<RepairOutcome>;
}

export interface CounterRepair {
  readonly shard: number;
  readonly inc: string;
  /** Name of the last repair that the corrections are based on. */
  readonly epoch: string;
  readonly repairId: string;
  readonly corrections: readonly Correction[];
  readonly nowMs: number;
}

export type RepairOutcome =
  | { readonly kind: "repaired"; readonly refused: number }
  | { readonly kind: "overtaken" };

/** Both sides of the comparison and what follows from it, in Postgres. */
export interface ConsolidationLedger {
  /** Asks by hashes only; a shard that agrees is done in its run. Answers in the order of the questions. */
  match(
    order: { readonly runId: string; readonly apply: boolean },
    asked: readonly MatchQuestion[],
    signal: AbortSignal,
  ): Promise<readonly Matched[]>;
  /** One transaction, and only where the cursor stands at the instant of the snapshot. */
  compare(comparison: Comparison, signal: AbortSignal): Promise<Compared>;
  /** Safe to repeat. `doneIn` = the run that the shard is done in with it; null = there is more to correct. */
  confirm(
    shard: number,
    repairId: string,
    doneIn: string | null,
    signal: AbortSignal,
  ): Promise<void>;
}

export interface MatchQuestion {
  readonly shard: number;
  readonly at: Cut & { readonly anchor: string | null };
  readonly isVerified: boolean;
  readonly digests: Readonly<Record<string, string>>;
}

export type Matched =
  | { readonly kind: "agreed" }
  /** Or something of the shard waits for somebody. */
  | { readonly kind: "differs" }
  /** The cursor stands somewhere else. */
  | { readonly kind: "elsewhere"; readonly cursor: Cursor };

export interface Comparison {
  readonly runId: string;
  readonly shard: number;
  readonly snapshot: CounterSnapshot;
  readonly at: Cut & { readonly anchor: string | null };
  /** A drain has just checked that the log is the one of the cursor. */
  readonly isVerified: boolean;
  /** Name of the repair that this comparison may plan. */
  readonly repairId: string;
  readonly periods: readonly number[];
  readonly apply: boolean;
  readonly limits: {
    readonly autoMax: number;
    readonly manyTenantsMin: number;
    readonly manyTenantsShare: number;
    readonly correctionsMax: number;
  };
}

export type Compared =
  | {
      readonly kind: "compared";
      readonly causes: Readonly<Record<string, number>>;
      /** Sum of the absolute differences. */
      readonly tokens: string;
      readonly held: number;
      readonly waiting: number;
      readonly booked: string;
      /** There is more to correct than one repair may hold. */
      readonly more: boolean;
      readonly corrections: readonly Correction[];
    }
  /** The cursor stands somewhere else. */
  | { readonly kind: "elsewhere"; readonly cursor: Cursor }
  /** Counters of these periods have to be read too. */
  | { readonly kind: "periods"; readonly periods: readonly number[] }
  /** Another repair was planned on this epoch and may still be applied. */
  | { readonly kind: "spent" };

export interface ConsolidationQueue {
  send(
    messages: readonly ConsolidationMessage[],
    delaySeconds: number,
    signal: AbortSignal,
  ): Promise<void>;
}

export interface ConsolidateDeps extends DrainDeps {
  readonly shardCounters: ShardCounters;
  readonly consolidationLedger: ConsolidationLedger;
  readonly consolidationQueue: ConsolidationQueue;
  readonly shardReports: ShardReports;
  readonly usageConfig: DrainDeps["usageConfig"] & { readonly repairAutoMax: number };
}

/**
 * Makes the counters of one shard equal to what the ledger says was used, or the other way round where the counters
 * know better. Producers may go on writing. Safe to run twice, concurrently, and to be killed between any two lines:
 * the ledger side is one transaction, the counters are corrected by one compare-and-swap, and what is planned and not
 * confirmed is settled by the next comparison.
 */
export async function consolidateShard(
  deps: ConsolidateDeps,
  message: ConsolidationMessage,
  run: Run,
): Promise<void> {
  const { shard, runId, apply, part, busy } = message;
  run.note({ shard, job: message.job, consolidationRunId: runId, apply, part, busy });
  const outcome = await consolidate(deps, message, run);
  run.note({ outcome });
  if (outcome === "sliced") {
    return deps.consolidationQueue.send([{ ...message, part: part + 1 }], 0, run.signal);
  }
  if (outcome === "busy" && busy < BUSY_MAX) {
    const later = { ...message, busy: busy + 1 };
    return deps.consolidationQueue.send([later], BUSY_DELAY_SECONDS, run.signal);
  }
  if (outcome === "busy")
    run.log.error("usage_cut_not_reached", { shard, consolidationRunId: runId });
  if (outcome === "agreed" || outcome === "repaired") return;
  const report =
    outcome === "busy"
      ? ({ runId, shard, state: "failed", errorCode: "cut_not_reached" } as const)
      : ({ runId, shard, state: "done" } as const);
  await deps.shardReports.report(report, run.signal);
}

/** `agreed`: there was nothing to do; `repaired`: counters were corrected. Of both the run knows already. */
type Outcome = "agreed" | "repaired" | "consolidated" | "sliced" | "busy";

async function consolidate(
  deps: ConsolidateDeps,
  message: ConsolidationMessage,
  run: Run,
): Promise<Outcome> {
  let periods: readonly number[] = countedPeriods(deps.clock.now());
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    run.note({ attempts: attempt });
    const result = await compareOnce(deps, message, periods, run);
    switch (result.kind) {
      case "sliced":
      case "agreed":
        return result.kind;
      case "periods":
        periods = [...periods, ...result.periods];
        break;
      case "compared": {
        const corrected = await correct(deps, message, result, run);
        if (corrected !== "again") return corrected;
        break;
      }
      default: // somebody moved the log, the cursor or the epoch: read again
    }
  }
  return "busy";
}

type Attempt =
  | (Extract<Compared, { kind: "compared" }> & { readonly repair: CounterRepair })
  | Exclude<Compared, { kind: "compared" }>
  | { readonly kind: "sliced" | "agreed" };

/** One snapshot, compared with the ledger at its own instant. */
async function compareOnce(
  deps: ConsolidateDeps,
  message: ConsolidationMessage,
  periods: readonly number[],
  run: Run,
): Promise<Attempt> {
  const { shard, runId, apply } = message;
  const { foreign, ...snapshot } = await deps.shardCounters.read(shard, periods, run.signal);
  if (foreign > 0) run.log.warn("usage_counters_foreign", { shard, fields: foreign });
  const { inc, epoch } = snapshot;
  const repairId = randomUUID();
  const order = { runId, shard, snapshot, repairId, periods, apply, limits: limitsOf(deps) };
  const compared = await compareAtCut(deps, { ...order, at: cutOf(snapshot) }, run);
  const repair = { shard, inc, epoch, repairId, corrections: [], nowMs: deps.clock.now() };
  if (compared.kind === "spent") await deps.shardCounters.repair(repair, run.signal);
  if (compared.kind !== "compared") return compared;
  return { ...compared, repair: { ...repair, corrections: compared.corrections } };
}

/**
 * Everything up to the cut is booked, and no further, so that both sides describe the same instant. Most shards agree,
 * which their hashes show; only the counters of the others have to travel.
 */
async function compareAtCut(
  deps: ConsolidateDeps,
  comparison: Omit<Comparison, "isVerified">,
  run: Run,
): Promise<Compared | { readonly kind: "sliced" | "agreed" }> {
  const { shard, at, snapshot, periods } = comparison;
  const question = { shard, at, digests: digestsOf(snapshot.counters, periods) };
  const match = async (isVerified: boolean): Promise<Matched> => {
    const asked = [{ ...question, isVerified }];
    const [matched] = await deps.consolidationLedger.match(comparison, asked, run.signal);
    invariant(matched !== undefined, "every question has an answer", "database_reply_unexpected");
    return matched;
  };
  const compare = (isVerified: boolean) =>
    deps.consolidationLedger.compare({ ...comparison, isVerified }, run.signal);
  const first = await match(false);
  if (first.kind !== "elsewhere") return first.kind === "agreed" ? first : compare(false);
  const drained = await drainTo(deps, comparison, first.cursor, run);
  if (drained !== "drained") return drained === "sliced" ? { kind: "sliced" } : first;
  const second = await match(true);
  return second.kind === "differs" ? compare(true) : second;
}

/** `passed` = the cursor stands somewhere else than at the cut, and a new snapshot is needed. */
async function drainTo(
  deps: ConsolidateDeps,
  { shard, runId, at: cut }: Omit<Comparison, "isVerified">,
  cursor: Cursor,
  run: Run,
): Promise<"drained" | "sliced" | "passed"> {
  // A cursor beyond the cut was moved by somebody, or Redis was rewound: draining to the end tells which.
  const isBeyond = cursor.inc === cut.inc && BigInt(cursor.n) > BigInt(cut.n);
  const report = () => deps.shardReports.report({ runId, shard, state: "running" }, run.signal);
  const lease = { fence: null, cursor };
  const order = { shard, runId, lease, report, cut: isBeyond ? undefined : cut };
  const drained = await drainShard(deps, order, run);
  if (drained.kind === "sliced") return "sliced";
  const isAtCut = drained.cursor.inc === cut.inc && drained.cursor.n === cut.n;
  return isAtCut ? "drained" : "passed";
}

const limitsOf = ({ usageConfig }: ConsolidateDeps): Comparison["limits"] => ({
  autoMax: usageConfig.repairAutoMax,
  manyTenantsMin: MANY_TENANTS_MIN,
  manyTenantsShare: MANY_TENANTS_SHARE,
  correctionsMax: CORRECTIONS_MAX,
});

/** `again` = look once more. A crash before the confirmation is settled by the next comparison. */
async function correct(
  deps: ConsolidateDeps,
  { shard, runId, apply }: ConsolidationMessage,
  result: Extract<Attempt, { kind: "compared" }>,
  run: Run,
): Promise<"consolidated" | "repaired" | "again"> {
  const { causes, tokens, held, waiting, booked, more, repair } = result;
  if (Object.keys(causes).length > 0) {
    const found = { causes, tokens, held, waiting, booked, corrected: repair.corrections.length };
    run.note(found);
    run.log.warn("usage_drift_found", { shard, consolidationRunId: runId, apply, ...found });
  }
  if (repair.corrections.length === 0) return "consolidated";
  invariant(apply, "a dry run corrects nothing");
  const outcome = await deps.shardCounters.repair(repair, run.signal);
  if (outcome.kind === "overtaken") return "again";
  if (outcome.refused > 0)
    run.log.error("usage_counters_refused", { shard, fields: outcome.refused });
  const doneIn = more ? null : runId;
  await deps.consolidationLedger.confirm(shard, repair.repairId, doneIn, run.signal);
  return more ? "again" : "repaired";
}
