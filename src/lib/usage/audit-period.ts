import type { Clock } from "../kernel/clock.ts";
import { AppError } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { AuditMessage } from "./audit-message.ts";
import type { AuditQueue } from "./audit-start.ts";
import { isDone, narrower, nextWidth, rangeFrom, type ShardRange } from "./plan-audit.ts";
import { type PruneDeps, pruneEvents } from "./prune-events.ts";
import { raiseUsageAlerts, type UsageAlertDeps } from "./usage-alerts.ts";

/** Bounds the loop of one message: one call per shard, and those that were too slow. */
const CALLS_MAX = 1000;
/** Of an audit that another worker is at: it ends within its call. */
const BUSY_DELAY_SECONDS = 30;
const BUSY_PARTS_MAX = 100;

export type AuditedRange =
  | { readonly kind: "audited"; readonly nextShard: number; readonly differences: number }
  /** Another call was faster. */
  | { readonly kind: "stale"; readonly nextShard: number; readonly differences: number }
  /** Somebody else is at it. */
  | { readonly kind: "busy" }
  /** The audit is over. */
  | { readonly kind: "ended" }
  | { readonly kind: "unknown" };

export interface FinishedAudit {
  readonly status: "running" | "succeeded" | "failed";
  readonly differences: number;
}

/** The audits, in Postgres: one call, one transaction, one snapshot. */
export interface AuditLedger {
  /** Compares a range that follows what was done; any other changes nothing. */
  compare(auditId: string, range: ShardRange, signal: AbortSignal): Promise<AuditedRange>;
  /** Ends it; repeating changes nothing. */
  finish(auditId: string, errorCode: string | null, signal: AbortSignal): Promise<FinishedAudit>;
}

export interface AuditDeps extends UsageAlertDeps, PruneDeps {
  readonly clock: Clock;
  readonly auditLedger: AuditLedger;
  readonly auditQueue: AuditQueue;
  readonly usageConfig: UsageAlertDeps["usageConfig"] &
    PruneDeps["usageConfig"] & { readonly sliceMs: number };
}

/**
 * Goes on with an audit until its slice is over, then hands on to its continuation. Safe to run twice, concurrently and
 * to be killed between any two lines: progress and findings of a range are one transaction, and only the range that
 * follows is taken. When all shards are compared it judges the alerts, and the monthly job drops old events.
 */
export async function auditPeriod(deps: AuditDeps, message: AuditMessage, run: Run): Promise<void> {
  run.note({ auditId: message.auditId, phase: message.phase, part: message.part });
  const until = deps.clock.now() + deps.usageConfig.sliceMs;
  if (message.phase === "audit") {
    const rest = await compareShards(deps, message, until, run);
    if (rest !== undefined)
      return deps.auditQueue.send(rest.message, rest.delaySeconds, run.signal);
    const finished = await deps.auditLedger.finish(message.auditId, null, run.signal);
    run.note({ audit: finished.status, differences: finished.differences });
    await raiseUsageAlerts(deps, run);
  }
  if (!message.prunes) return;
  const isPruned = await pruneEvents(deps, until, run);
  if (isPruned) return;
  const next = { ...message, phase: "prune", part: message.part + 1 } as const;
  await deps.auditQueue.send(next, 0, run.signal);
}

interface Rest {
  readonly message: AuditMessage;
  readonly delaySeconds: number;
}

/** What is left for a continuation; undefined when every shard is compared. */
async function compareShards(
  deps: AuditDeps,
  message: AuditMessage,
  until: number,
  run: Run,
): Promise<Rest | undefined> {
  let at: Progress = { nextShard: message.nextShard, width: message.width };
  const rest = (delaySeconds: number): Rest => ({
    message: { ...message, ...at, part: message.part + 1 },
    delaySeconds,
  });
  for (let call = 0; call < CALLS_MAX && deps.clock.now() < until; call += 1) {
    if (isDone(at.nextShard)) return undefined;
    const step = await compareNext(deps, message.auditId, at, run.signal);
    if (step === "over") return undefined;
    if (step === "busy")
      return message.part < BUSY_PARTS_MAX ? rest(BUSY_DELAY_SECONDS) : undefined;
    at = step;
    run.note({ ...at });
  }
  return isDone(at.nextShard) ? undefined : rest(0);
}

interface Progress {
  readonly nextShard: number;
  readonly width: number;
}

/** A statement that was given up for its time did nothing; fewer shards may pass. */
async function compareNext(
  { clock, auditLedger }: AuditDeps,
  auditId: string,
  { nextShard, width }: Progress,
  signal: AbortSignal,
): Promise<Progress | "busy" | "over"> {
  const startedAt = clock.now();
  try {
    const range = rangeFrom(nextShard, width);
    const compared = await auditLedger.compare(auditId, range, signal);
    if (compared.kind === "busy") return "busy";
    if (compared.kind === "stale") return { nextShard: compared.nextShard, width };
    if (compared.kind !== "audited") return "over";
    return {
      nextShard: compared.nextShard,
      width: nextWidth(width, clock.now() - startedAt),
    };
  } catch (error) {
    const less = isTimeout(error) ? narrower(width) : undefined;
    if (less === undefined) throw error;
    return { nextShard, width: less };
  }
}

/** Query cancelled, as a statement ends that ran out of its time. */
const isTimeout = (error: unknown): boolean =>
  error instanceof AppError && error.details["sqlstate"] === "57014";
