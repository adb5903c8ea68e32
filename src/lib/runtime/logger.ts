import type { LogFields, Logger } from "../kernel/run.ts";

const TEXT_MAX = 1000;
const ITEMS_MAX = 50;
const DEPTH_MAX = 4;
const REDACTED = "[redacted]";

/** Names of fields that never leave, whatever they hold. A count called `tokens` is not one of them. */
const SECRET_NAME =
  /(^|[-_.])(token|secret|password|passwd|authorization|cookie|credential|signature|api[-_]?key|account[-_]?key|connection[-_]?string|sas|subject|body|email|address)$|^x-functions-key$/i;

/** Values that give themselves away: bearer tokens, JWTs, account keys, keys of ours and of Supabase, addresses. */
const SECRET_VALUE =
  /bearer\s+\S+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|(AccountKey|SharedAccessSignature|sig)=[^;&\s]+|\b(sb_secret|wsk)_[\w-]+|rediss?:\/\/[^@\s]*@|[\w.+-]+@[\w-]+(\.[\w-]+)+/gi;

const separated = (name: string): string => name.replace(/([a-z0-9])([A-Z])/g, "$1_$2");

/** Removes what must not reach a log line, and bounds what may. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return redactText(value);
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return redactText(`${value.name}: ${value.message}`);
  if (typeof value !== "object" || value === null) return value;
  if (depth >= DEPTH_MAX) return "[deep]";
  if (Array.isArray(value)) return value.slice(0, ITEMS_MAX).map((item) => redact(item, depth + 1));
  return redactFields(value, depth);
}

const redactText = (text: string): string =>
  text.slice(0, TEXT_MAX).replace(SECRET_VALUE, REDACTED);

function redactFields(fields: object, depth: number): Record<string, unknown> {
  const entries = Object.entries(fields).slice(0, ITEMS_MAX);
  return Object.fromEntries(
    entries.map(([name, value]) => [
      name,
      SECRET_NAME.test(separated(name)) ? REDACTED : redact(value, depth + 1),
    ]),
  );
}

export type LogLevel = "info" | "warn" | "error";

/** One JSON object per line: `event` first, then the fields of every line, then the fields of this one. */
export function createLogger(
  write: (level: LogLevel, line: string) => void,
  common: LogFields = {},
): Logger {
  const log = (level: LogLevel) => (event: string, fields?: LogFields) =>
    write(level, JSON.stringify({ event, ...redactFields({ ...common, ...fields }, 0) }));
  return { info: log("info"), warn: log("warn"), error: log("error") };
}
