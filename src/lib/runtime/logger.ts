import type { LogFields, Logger } from "../kernel/run.ts";

const TEXT_MAX = 1000;
/** Read before redaction, so that a secret which the cut would halve is still seen whole. */
const TEXT_READ_MAX = 4 * TEXT_MAX;
const ITEMS_MAX = 50;
const DEPTH_MAX = 4;
/** For one line: width and depth alone would allow millions of values, and a cycle has that many. */
const VALUES_MAX = 500;
const CHARACTERS_MAX = 16_000;
const REDACTED = "[redacted]";
const CUT = "[cut]";

export type LogLevel = "info" | "warn" | "error";

/**
 * One JSON object per line: `event` first, then the fields of every line, then the fields of this one, which cannot
 * replace them. Never throws: a field that cannot be read must not end a run.
 */
export function createLogger(
  write: (level: LogLevel, line: string) => void,
  common: LogFields = {},
): Logger {
  const log = (level: LogLevel) => (event: string, fields?: LogFields) =>
    write(level, lineOf(event, { ...common, ...fields, ...common }));
  return { info: log("info"), warn: log("warn"), error: log("error") };
}

function lineOf(event: string, fields: LogFields): string {
  try {
    return JSON.stringify(Object.assign({ event }, redact(fields), { event }));
  } catch {
    return JSON.stringify({ event, unreadable: Object.keys(fields).slice(0, ITEMS_MAX) });
  }
}

/** Removes what must not reach a log line, and bounds what may. The result is plain JSON data. */
export function redact(value: unknown): unknown {
  return redactValue(value, 0, { values: VALUES_MAX, characters: CHARACTERS_MAX });
}

/** What is left of a line. */
interface Budget {
  values: number;
  characters: number;
}

function redactValue(value: unknown, depth: number, budget: Budget): unknown {
  budget.values -= 1;
  if (budget.values < 0) return CUT;
  if (typeof value === "string") return redactText(value, budget);
  if (typeof value === "object" && value !== null) return redactObject(value, depth, budget);
  const isJson = value === null || typeof value === "boolean" || Number.isFinite(value);
  return isJson || value === undefined ? value : String(value);
}

function redactObject(value: object, depth: number, budget: Budget): unknown {
  if (value instanceof Error) return redactText(`${value.name}: ${value.message}`, budget);
  if (value instanceof URL) return redactText(value.href, budget);
  if (value instanceof Date) return redactText(dateText(value), budget);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= DEPTH_MAX) return "[deep]";
  if (value instanceof Map) return redactFields(Object.fromEntries(value), depth, budget);
  if (value instanceof Set) return redactItems([...value], depth, budget);
  if (Array.isArray(value)) return redactItems(value, depth, budget);
  return redactFields(value, depth, budget);
}

const dateText = (date: Date): string =>
  Number.isNaN(date.getTime()) ? String(date) : date.toISOString();

function redactItems(items: readonly unknown[], depth: number, budget: Budget): unknown[] {
  const kept = items.slice(0, ITEMS_MAX).map((item) => redactValue(item, depth + 1, budget));
  return items.length > ITEMS_MAX ? [...kept, `[${items.length - ITEMS_MAX} more]`] : kept;
}

function redactFields(fields: object, depth: number, budget: Budget): Record<string, unknown> {
  const entries = Object.entries(fields).slice(0, ITEMS_MAX);
  return Object.fromEntries(
    entries.map(([name, value]) => [
      name.slice(0, TEXT_MAX),
      isSecret(name, value) ? REDACTED : redactValue(value, depth + 1, budget),
    ]),
  );
}

/** Names of fields that never leave, whatever they hold. */
const SECRET_NAME =
  /(^|[-_.])(token|secret|password|passwd|pwd|passphrase|authorization|cookie|credential|signature|client[-_]?state|(api|account|access|master|functions?|host|private|role|supabase)[-_]?key|connection[-_]?string|sas|subject|body|email|address)$/i;
/** The same in the plural, which may be a count: `tokens: 1200` stays. */
const SECRET_NAMES =
  /(^|[-_.])(tokens|secrets|passwords|cookies|credentials|signatures|(api|account|access)[-_]?keys|subjects|bodies|emails|addresses)$/i;

function isSecret(name: string, value: unknown): boolean {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/([A-Z])([A-Z][a-z])/g, "$1_$2");
  return SECRET_NAME.test(words) || (SECRET_NAMES.test(words) && !isCount(value));
}

/** Amounts beyond 2^53 travel as decimal strings. */
const isCount = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  typeof value === "number" ||
  typeof value === "bigint" ||
  (typeof value === "string" && /^-?\d{1,40}$/.test(value));

/**
 * Values that give themselves away. Each alternative starts at a place that a long text has few of, so that no text
 * makes it slow.
 */
const SECRET_VALUE = new RegExp(
  [
    String.raw`\bbearer\s+\S+`,
    String.raw`\bauthorization\W{1,4}(basic\s+)?\S+`,
    String.raw`\beyJ[\w-]{4,}\.[\w-]+(\.[\w-]*)?`, // JSON web tokens
    String.raw`\b\w{0,40}(key|token|secret|password|pwd|signature|sig)=[^;&\s"']+`,
    String.raw`[?&]code=[^&\s"']+`, // keys of the Functions host
    String.raw`\b(sb_secret|wsk)_[\w-]+`, // keys of Supabase, keys of ours
    String.raw`\bsk-[\w-]{16,}`, // keys of language models
    String.raw`\brediss?:\/\/[^@\s]{0,300}@`,
    String.raw`\b[a-z][a-z0-9+.-]{0,20}:\/\/[^@\s/]{0,300}@`,
    String.raw`https:\/\/hooks\.slack\.com\/[^\s"']+`,
    String.raw`https:\/\/[\w.-]{1,100}\.webhook\.office\.com\/[^\s"']+`,
    String.raw`(?<![\p{L}\p{N}._%+-])[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(\.[\p{L}\p{N}-]+)*\.\p{L}{2,}`,
  ].join("|"),
  "giu",
);

function redactText(text: string, budget: Budget): string {
  const max = Math.min(TEXT_MAX, Math.max(budget.characters, 0));
  const kept = text.slice(0, TEXT_READ_MAX).replace(SECRET_VALUE, REDACTED);
  budget.characters -= Math.min(kept.length, max);
  return kept.length > max ? `${kept.slice(0, max)}${CUT}` : kept;
}
