import type { Alert, AlertLevel, Alerts } from "../kernel/alerts.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Logger } from "../kernel/run.ts";

/** What became of a report. A notice is due when an incident begins or gets worse, and once a day while it stands. */
export interface Raised {
  readonly id: string;
  readonly state: "firing" | "acknowledged";
  readonly count: string;
  readonly notice: "new" | "level" | "doubled" | "reminder" | null;
}

export interface Resolved {
  readonly id: string;
  readonly level: AlertLevel;
  readonly count: string;
  readonly firstSeen: string;
}

/** The incidents, in Postgres: one call, one transaction. */
export interface AlertLedger {
  raise(alert: Alert, now: number, signal: AbortSignal): Promise<Raised>;
  /** Undefined = nothing was open under the key. */
  resolve(key: string, now: number, signal: AbortSignal): Promise<Resolved | undefined>;
}

export interface AlertsDeps {
  readonly clock: Clock;
  readonly alertLedger: AlertLedger;
  readonly log: Logger;
}

/**
 * Remembers incidents, and writes a line for each notice. The notice is part of the transaction that decides it, so a
 * crash before the line loses the line and nothing else.
 */
export const createAlerts = ({ clock, alertLedger, log }: AlertsDeps): Alerts => ({
  raise: async (alert, signal) => {
    const raised = await alertLedger.raise(alert, clock.now(), signal);
    if (raised.notice === null) return;
    const { key, level, title, value, threshold, runbook, evidence } = alert;
    const { id, count, notice } = raised;
    const line = { alertId: id, key, level, notice, title, value, threshold, count, runbook };
    log[severityOf(level)]("alert_raised", { ...line, evidence });
  },
  resolve: async (key, signal) => {
    const resolved = await alertLedger.resolve(key, clock.now(), signal);
    if (resolved === undefined) return;
    const { id, level, count, firstSeen } = resolved;
    log.info("alert_resolved", { alertId: id, key, level, count, firstSeen });
  },
});

const severityOf = (level: AlertLevel): "info" | "warn" | "error" =>
  level === "critical" ? "error" : level === "warning" ? "warn" : "info";
