export type AlertLevel = "info" | "warning" | "critical";

/** What an operator should know. */
export interface Alert {
  /** `<kind>[:<subject>]`, at most 400 characters. Reports of one key are one incident until it is resolved. */
  readonly key: string;
  readonly level: AlertLevel;
  /** One sentence without numbers; those are evidence. */
  readonly title: string;
  /** Ids, counts and amounts; never content. */
  readonly evidence: Readonly<Record<string, unknown>>;
  /** A page of docs/operations, with its anchor. */
  readonly runbook: string;
  /** How bad it is, a decimal string; another notice is due when it doubles. */
  readonly value?: string;
  /** Above which it is reported, a decimal string. */
  readonly threshold?: string;
}

/** Where features report. Both calls may be repeated: one key is one incident. */
export interface Alerts {
  /** Something is wrong, or still is. */
  raise(alert: Alert, signal: AbortSignal): Promise<void>;
  /** It is over. Nothing happens when nothing was reported. */
  resolve(key: string, signal: AbortSignal): Promise<void>;
}
