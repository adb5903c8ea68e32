import type { Clock } from "../kernel/clock.ts";
import type { Run } from "../kernel/run.ts";
import type { AuditMessage } from "./audit-message.ts";
import { firstWidth, monthBefore } from "./plan-audit.ts";

export interface AuditOrder {
  /** What asks; the same key is the same audit. */
  readonly key: string;
  readonly period: number;
  readonly trigger: "timer" | "close" | "manual";
  readonly who: string;
}

export interface StartedAudit {
  readonly auditId: string;
  readonly status: "running" | "succeeded" | "failed";
  readonly nextShard: number;
  /** An estimate of what has to be read. */
  readonly rows: number;
}

export interface AuditStarts {
  /** Starts it, or finds it; one that failed goes on where it ended. */
  start(order: AuditOrder, signal: AbortSignal): Promise<StartedAudit>;
}

export interface AuditQueue {
  send(message: AuditMessage, delaySeconds: number, signal: AbortSignal): Promise<void>;
}

export interface AuditStartDeps {
  readonly auditStarts: AuditStarts;
  readonly auditQueue: AuditQueue;
}

/**
 * Starts the audit of a month; its queue does the work. Safe to repeat: the same key is the same audit, and a second
 * message finds its work done. A crash before the message leaves a running audit that the next call sends again.
 */
export async function startAudit(
  deps: AuditStartDeps,
  order: AuditOrder,
  run: Run,
): Promise<StartedAudit> {
  const audit = await deps.auditStarts.start(order, run.signal);
  run.note({ auditId: audit.auditId, auditedPeriod: order.period, auditRows: audit.rows });
  const prunes = order.trigger === "timer";
  if (audit.status !== "running" && !prunes) return audit;
  const phase = audit.status === "running" ? "audit" : "prune";
  const { auditId, nextShard } = audit;
  const width = firstWidth(audit.rows);
  const message = { v: 1, job: "monthly_audit", auditId, phase, prunes, nextShard, width } as const;
  await deps.auditQueue.send({ ...message, part: 0 }, 0, run.signal);
  return audit;
}

/** The monthly job: audits the month before. Twice on one day is one audit. */
export async function startMonthlyAudit(
  deps: AuditStartDeps & { readonly clock: Clock },
  run: Run,
): Promise<void> {
  const now = deps.clock.now();
  const period = monthBefore(now);
  const day = new Date(now).toISOString().slice(0, 10);
  const key = `monthly:${period}:${day}`;
  await startAudit(deps, { key, period, trigger: "timer", who: run.name }, run);
}
