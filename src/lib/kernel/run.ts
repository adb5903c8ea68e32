import type { Failure } from "./errors.ts";

/** Values a log line may carry; redaction removes what looks like a secret, callers keep personal data out. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  /** A fact an operator searches for. `event` is snake_case, everything variable is a field. */
  info(event: string, fields?: LogFields): void;
  /** Needs a person if it repeats. */
  warn(event: string, fields?: LogFields): void;
  /** A run failed. */
  error(event: string, fields?: LogFields): void;
}

/** One invocation, as a feature sees it. */
export interface Run {
  /** Name of the function that runs. */
  readonly name: string;
  /** Invocation id of the host; new for every attempt. */
  readonly id: string;
  readonly log: Logger;
  /** Aborts before the host would; every outgoing call takes it. */
  readonly signal: AbortSignal;
  /** Adds fields to the one line that the run writes when it ends. */
  note(fields: LogFields): void;
}

/** The run as its owner sees it. Only the first `finish` writes the line. */
export interface ActiveRun extends Run {
  finish(failure?: Failure): void;
}
