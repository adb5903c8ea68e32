import { createHash } from "node:crypto";
import { dayOf, isPeriod, periodOf } from "./usage-keys.ts";
import { FUTURE_MAX_MS, PAST_MAX_MS } from "./usage-record.ts";

/**
 * The log of a shard, entry by entry. Everything here comes from Redis and is untrusted: a malformed entry is set
 * aside with its raw value and never disturbs its neighbours. Pure.
 */

/** One entry as Redis holds it: its number and its fields, name and value in turn. */
export interface LogRow {
  readonly n: string;
  readonly fields: readonly string[];
}

/** Why an entry is set aside. */
export type EntryFault =
  | "format"
  | "uid"
  | "tenant"
  | "tokens"
  | "period"
  | "occurred"
  | "type"
  | "dimensions"
  | "occurred_too_old";

export interface UseEntry {
  readonly uid: string;
  readonly tenant: string;
  readonly tokens: string;
  /** The period it happened in, as the producer decided. */
  readonly period: number;
  /** The period it asks to be billed in: that one, or the period of acceptance when it claims to lie ahead. */
  readonly billPeriod: number;
  readonly day: number;
  readonly type: string;
  readonly model: string;
  readonly agent: string;
  readonly conversation: string;
  /** The lineage whose loss this replays, or ''. */
  readonly replayOf: string;
}

export interface BadEntry {
  readonly n: string;
  /** The fields as JSON text: exact, and free of anything that jsonb cannot hold. */
  readonly raw: string;
  readonly error: EntryFault;
  /** Its amount when it continues the running sum, else null: then it is not part of the log's arithmetic. */
  readonly tokens: string | null;
  /** Whose it seems to be, so that the tenant's own page can show it; null when that cannot be read. */
  readonly tenant: string | null;
  readonly period: number | null;
}

export interface RewindMarker {
  readonly n: string;
  readonly oldInc: string;
  readonly lastN: string;
  readonly lastCum: string;
  readonly survivingN: string;
  readonly survivingCum: string;
}

/** What the log looked like after an entry; the cursor of the next read. */
export interface LogPosition {
  readonly n: string;
  readonly cum: string | null;
  readonly count: string | null;
  /** `<uid>@<recordedUs>` of the entry at n, or null when it is no use. */
  readonly anchor: string | null;
}

export interface DecodedBatch {
  readonly uses: readonly UseEntry[];
  readonly bad: readonly BadEntry[];
  readonly markers: readonly RewindMarker[];
  readonly end: LogPosition;
}

const FIELD = "d";
const RECORD_PARTS = 13;
const MARKER_PARTS = 8;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const TOKENS = /^(0|-?[1-9]\d{0,14}|-?1000000000000000)$/;
const SUM = /^-?\d{1,30}$/;
const COUNT = /^\d{1,18}$/;
const MICROSECONDS = /^\d{16}$/;
/** 2000-01-01 and 2100-01-01: outside lies a wrong unit, not a wrong clock. */
const OCCURRED_MIN_MS = 946_684_800_000;
const OCCURRED_MAX_MS = 4_102_444_800_000;
const TENANT_CHARACTERS_MAX = 200;
const RAW_CHARACTERS_MAX = 16_384;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
const CONTROL = /[\u0000-\u001f\u007f]/;

interface Parsed {
  readonly cum: string;
  readonly uid: string;
  readonly tokens: string;
  readonly period: string;
  readonly occurredMs: string;
  readonly replayOf: string;
  readonly count: string;
  readonly recordedUs: string;
  readonly type: string;
  readonly model: string;
  readonly agent: string;
  readonly conversation: string;
  readonly tenant: string;
}

/** Decodes the entries after a position, in order. */
export function decodeEntries(rows: readonly LogRow[], from: LogPosition): DecodedBatch {
  const uses: UseEntry[] = [];
  const bad: BadEntry[] = [];
  const markers: RewindMarker[] = [];
  let end = from;
  for (const row of rows) {
    const value = row.fields[0] === FIELD && row.fields.length === 2 ? (row.fields[1] ?? "") : "";
    const parts = value.split("|");
    const marker = parseMarker(row.n, parts);
    if (marker !== undefined) {
      markers.push(marker.marker);
      end = { n: row.n, cum: marker.cum, count: marker.count, anchor: null };
      continue;
    }
    const parsed = parseRecord(parts);
    const fault = parsed === undefined ? "format" : faultOf(parsed);
    if (parsed !== undefined && fault === undefined) {
      uses.push(toUse(parsed));
      end = positionAt(row.n, parsed);
      continue;
    }
    const isOurs = fault === "occurred_too_old"; // well-formed in every part
    const isInChain = parsed !== undefined && (isOurs || continues(end, parsed));
    bad.push({
      n: row.n,
      raw: rawOf(row.fields),
      error: fault ?? "format",
      tokens: isInChain ? parsed.tokens : null,
      ...claimantOf(parsed),
    });
    end = isInChain ? positionAt(row.n, parsed) : { ...end, n: row.n, anchor: null };
  }
  return { uses, bad, markers, end };
}

/** The anchor of an entry, to compare with the one the cursor remembers; null when the entry is no use. */
export function anchorOf(row: LogRow): { readonly anchor: string; readonly cum: string } | null {
  const parsed = parseRecord((row.fields[1] ?? "").split("|"));
  if (parsed === undefined || !UUID.test(parsed.uid)) return null;
  return { anchor: `${parsed.uid}@${parsed.recordedUs}`, cum: parsed.cum };
}

export type Revised =
  | { readonly kind: "use"; readonly use: UseEntry }
  | { readonly kind: "fault"; readonly error: EntryFault };

/**
 * Judges the raw value of an entry that was set aside once more, by today's rules. Its age does not count: a person
 * asked for it.
 */
export function reviseEntry(raw: string): Revised {
  const fields = parseFields(raw);
  const parsed = parseRecord((fields[0] === FIELD ? (fields[1] ?? "") : "").split("|"));
  if (parsed === undefined) return { kind: "fault", error: "format" };
  const error = faultOf(parsed);
  if (error !== undefined && error !== "occurred_too_old") return { kind: "fault", error };
  return { kind: "use", use: toUse(parsed) };
}

/** What `rawOf` wrote; an entry that was kept in part only cannot be read again. */
function parseFields(raw: string): readonly string[] {
  try {
    const fields: unknown = JSON.parse(raw);
    return Array.isArray(fields) ? fields.map(String) : [];
  } catch {
    return [];
  }
}

function parseMarker(
  n: string,
  parts: readonly string[],
): { marker: RewindMarker; cum: string; count: string } | undefined {
  const [cum, kind, oldInc, lastN, lastCum, survivingN, survivingCum, count] = parts;
  if (kind !== "R" || parts.length !== MARKER_PARTS) return undefined;
  const isSane =
    [cum, lastCum, survivingCum].every((sum) => SUM.test(sum ?? "")) &&
    [lastN, survivingN, count].every((number) => COUNT.test(number ?? ""));
  if (!isSane) return undefined;
  const marker = {
    n,
    oldInc: oldInc ?? "",
    lastN: lastN ?? "",
    lastCum: lastCum ?? "",
    survivingN: survivingN ?? "",
    survivingCum: survivingCum ?? "",
  };
  return { marker, cum: cum ?? "", count: count ?? "" };
}

function parseRecord(parts: readonly string[]): Parsed | undefined {
  if (parts.length < RECORD_PARTS) return undefined;
  const at = (index: number): string => parts[index] ?? "";
  return {
    cum: at(0),
    uid: at(1),
    tokens: at(2),
    period: at(3),
    occurredMs: at(4),
    replayOf: at(5),
    count: at(6),
    recordedUs: at(7),
    type: at(8),
    model: at(9),
    agent: at(10),
    conversation: at(11),
    tenant: parts.length === RECORD_PARTS ? at(12) : parts.slice(12).join("|"),
  };
}

function faultOf(entry: Parsed): EntryFault | undefined {
  const occurred = Number(entry.occurredMs);
  if (!SUM.test(entry.cum) || !COUNT.test(entry.count) || !MICROSECONDS.test(entry.recordedUs)) {
    return "format";
  }
  if (!UUID.test(entry.uid)) return "uid";
  if (!isTenant(entry.tenant)) return "tenant";
  if (!TOKENS.test(entry.tokens)) return "tokens";
  if (!isPeriodText(entry.period)) return "period";
  if (!(occurred > OCCURRED_MIN_MS && occurred < OCCURRED_MAX_MS)) return "occurred";
  if (entry.type !== "llm" && entry.type !== "embedding") return "type";
  if (CONTROL.test(entry.model + entry.agent + entry.conversation)) return "dimensions";
  return occurred < recordedMs(entry) - PAST_MAX_MS ? "occurred_too_old" : undefined;
}

const isTenant = (tenant: string): boolean =>
  tenant !== "" && tenant.length <= TENANT_CHARACTERS_MAX && !CONTROL.test(tenant);

const isPeriodText = (text: string): boolean => /^\d{6}$/.test(text) && isPeriod(Number(text));

const claimantOf = (entry: Parsed | undefined): Pick<BadEntry, "tenant" | "period"> => ({
  tenant: entry !== undefined && isTenant(entry.tenant) ? entry.tenant : null,
  period: entry !== undefined && isPeriodText(entry.period) ? Number(entry.period) : null,
});

const recordedMs = (entry: Parsed): number => Math.floor(Number(entry.recordedUs) / 1000);

function toUse(entry: Parsed): UseEntry {
  const occurred = Number(entry.occurredMs);
  const accepted = recordedMs(entry);
  const isAhead = occurred > accepted + FUTURE_MAX_MS;
  const period = Number(entry.period);
  return {
    uid: entry.uid,
    tenant: entry.tenant,
    tokens: entry.tokens,
    period,
    billPeriod: isAhead ? Math.min(period, periodOf(accepted)) : period,
    day: dayOf(occurred),
    type: entry.type,
    model: entry.model,
    agent: entry.agent,
    conversation: entry.conversation,
    replayOf: entry.replayOf,
  };
}

/**
 * Whether an entry follows on the position: only then is it the log's own. A foreign entry must neither open a gap
 * nor move the sum that the cursor remembers.
 */
const continues = (end: LogPosition, entry: Parsed): boolean =>
  end.cum !== null &&
  SUM.test(entry.cum) &&
  TOKENS.test(entry.tokens) &&
  BigInt(entry.cum) === BigInt(end.cum) + BigInt(entry.tokens);

const positionAt = (n: string, entry: Parsed): LogPosition => ({
  n,
  cum: entry.cum,
  count: COUNT.test(entry.count) ? entry.count : null,
  anchor:
    UUID.test(entry.uid) && MICROSECONDS.test(entry.recordedUs)
      ? `${entry.uid}@${entry.recordedUs}`
      : null,
});

/** JSON text escapes NUL and lone surrogates, which neither text nor jsonb can hold. */
function rawOf(fields: readonly string[]): string {
  const text = JSON.stringify(fields);
  if (text.length <= RAW_CHARACTERS_MAX) return text;
  const sha256 = createHash("sha256").update(text).digest("hex");
  return `${text.slice(0, RAW_CHARACTERS_MAX)}… (${text.length} characters, sha256 ${sha256})`;
}
