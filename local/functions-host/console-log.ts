import type { LogLevel } from "./core-types.ts";
import type { HostLogger, LogEntry } from "./host-log.ts";
import { isObject } from "./json-file.ts";

export interface ConsoleLogOptions {
  /** One JSON object per line instead of text. */
  readonly isJson?: boolean;
  /** Shows debug and trace too. */
  readonly isVerbose?: boolean;
  readonly write?: (line: string) => void;
}

const LABELS: Readonly<Record<LogLevel, string>> = {
  trace: "trace",
  debug: "debug",
  information: "info ",
  warning: "WARN ",
  error: "ERROR",
  critical: "FATAL",
};

/** Writes log entries for a person at a terminal, or as JSON for a machine. */
export function consoleLogger(options: ConsoleLogOptions = {}): HostLogger {
  const {
    isJson = false,
    isVerbose = false,
    write = (line) => process.stdout.write(line),
  } = options;
  return (entry) => {
    if (!isVerbose && (entry.level === "debug" || entry.level === "trace")) return;
    write(`${isJson ? jsonLine(entry) : textLine(entry)}\n`);
  };
}

/** `HH:MM:SS level function: message`, in UTC. */
export function textLine({ at, level, category, functionName, message }: LogEntry): string {
  const time = at.toISOString().slice(11, 19);
  const source = functionName ?? (category.startsWith("Host.Function") ? "app" : "host");
  return `${time} ${LABELS[level] ?? level} ${source}: ${readable(message, functionName)}`;
}

function jsonLine({ at, ...entry }: LogEntry): string {
  return JSON.stringify({ time: at.toISOString(), ...entry });
}

/** A message that is one JSON object with an `event` becomes `event key=value …`; every other stays as it is. */
function readable(message: string, functionName: string | undefined): string {
  const fields = message.startsWith("{") ? parse(message) : undefined;
  if (fields === undefined || typeof fields["event"] !== "string") return message;
  const { event, ...rest } = fields;
  if (rest["function"] === functionName) delete rest["function"];
  const pairs = Object.entries(rest).map(([key, value]) => `${key}=${valueText(value)}`);
  return [event, ...pairs].join(" ");
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Text without spaces, quotes or an equals sign needs no quotes. */
function valueText(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
