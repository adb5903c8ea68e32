import type { LogLevel } from "./core-types.ts";

export interface LogEntry {
  readonly at: Date;
  readonly level: LogLevel;
  /** As in Application Insights: `Function.<name>`, `Function.<name>.User`, `Host.…`. */
  readonly category: string;
  readonly message: string;
  readonly functionName?: string;
  readonly invocationId?: string;
}

export type HostLogger = (entry: LogEntry) => void;

export interface LogSource {
  readonly category?: string;
  readonly functionName?: string;
  readonly invocationId?: string;
}

/** Writes one entry; the category follows from the source when it is not given. */
export type HostLog = (level: LogLevel, message: string, source?: LogSource) => void;

export const createHostLog =
  (logger: HostLogger): HostLog =>
  (level, message, source = {}) => {
    const { functionName } = source;
    const category = functionName === undefined ? "Host" : `Function.${functionName}`;
    logger({ at: new Date(), level, category, message, ...source });
  };
