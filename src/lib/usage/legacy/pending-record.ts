import { createHash } from "node:crypto";
import type { UseEntry } from "../log-entry.ts";
import { dayOf, eventIdOf, periodOf } from "../usage-keys.ts";
import { FUTURE_MAX_MS, PAST_MAX_MS, TOKEN_TYPES, TOKENS_MAX } from "../usage-record.ts";

/**
 * A member of the pending set: one use whose database write failed, as JSON that older producers wrote. All of it is
 * untrusted. Pure.
 */

/** Why a member is set aside. */
export type MemberFault =
  | "too_large"
  | "not_json"
  | "not_a_record"
  | "tenant"
  | "tokens"
  | "timestamp"
  | "type"
  | "dimensions"
  | "occurred_too_old";

export interface BadMember {
  /** The member as JSON text, exact and free of anything that Postgres cannot hold; in part when it is too long. */
  readonly raw: string;
  /** Nothing of the member would be lost if the set forgot it. */
  readonly isComplete: boolean;
  readonly error: MemberFault;
  /** Whose it seems to be; null when that cannot be read. */
  readonly tenant: string | null;
  readonly period: number | null;
  readonly tokens: string | null;
}

export type ParsedMember =
  | { readonly kind: "use"; readonly use: UseEntry }
  | { readonly kind: "bad"; readonly bad: BadMember };

/** A record is some 300 characters; what is longer is not even parsed. */
const MEMBER_CHARACTERS_MAX = 65_536;
/** More than this of a bad member is not kept, and it stays in the set. */
const RAW_CHARACTERS_MAX = 16_384;
const ID_CHARACTERS_MAX = 200;
/** First element of the raw value of a bad member: tells it from an entry of the log. */
const LANE = "legacy_pending";
/** 2000-01-01 and 2100-01-01 in seconds: outside lies a wrong unit, not a wrong clock. */
const TIMESTAMP_MIN = 946_684_800;
const TIMESTAMP_MAX = 4_102_444_800;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
const CONTROL = /[\u0000-\u001f\u007f]/;

/** @param now ms; decides about age, and about the month of a use that claims to lie ahead. */
export function parseMember(member: string, now: number): ParsedMember {
  const read = readRecord(member);
  if (typeof read === "string") return { kind: "bad", bad: setAside(member, read) };
  const fault = read.fault ?? ageFault(read, now);
  if (fault !== undefined) return { kind: "bad", bad: setAside(member, fault, read) };
  return { kind: "use", use: toUse(read, now) };
}

export type RevisedMember =
  | { readonly kind: "use"; readonly use: UseEntry }
  | { readonly kind: "fault"; readonly error: MemberFault };

/**
 * Judges the raw value of a member that was set aside once more. Its age does not count: a person asked for it.
 * Undefined = the raw value is none of the pending set's.
 */
export function reviseMember(raw: string, now: number): RevisedMember | undefined {
  if (!raw.startsWith(`["${LANE}",`)) return undefined;
  const member = parseJson(raw);
  const text: unknown = Array.isArray(member) ? member[1] : undefined;
  if (typeof text !== "string") return { kind: "fault", error: "too_large" };
  const read = readRecord(text);
  if (typeof read === "string") return { kind: "fault", error: read };
  return read.fault === undefined
    ? { kind: "use", use: toUse(read, now) }
    : { kind: "fault", error: read.fault };
}

/** What could be read of a record; `fault` is the first thing wrong with it. */
interface ReadRecord {
  readonly tenant: string | undefined;
  readonly tokens: number | undefined;
  readonly timestamp: number | undefined;
  readonly type: string;
  readonly model: string | null;
  readonly agent: string | null;
  readonly conversation: string | null;
  readonly operation: string | null;
  readonly fault: MemberFault | undefined;
}

function readRecord(member: string): ReadRecord | MemberFault {
  if (member.length > MEMBER_CHARACTERS_MAX) return "too_large";
  const parsed = parseJson(member);
  if (parsed === undefined) return "not_json";
  // Some cache layers write JSON once more around what they are given.
  const record = typeof parsed === "string" ? parseJson(parsed) : parsed;
  if (typeof record !== "object" || record === null || Array.isArray(record)) return "not_a_record";
  return readFields(record as Readonly<Record<string, unknown>>);
}

function readFields(record: Readonly<Record<string, unknown>>): ReadRecord {
  const tenant = identifier(record["tenant_id"]);
  const tokens = wholeNumber(record["tokens"]);
  const timestamp = instant(record["timestamp"]);
  const type = record["token_type"] ?? "llm";
  const texts = ["model", "agent_id", "conversation_id", "operation"].map((name) =>
    optionalText(record[name]),
  );
  const [model, agent, conversation, operation] = texts;
  const isKnownType = TOKEN_TYPES.some((known) => known === type);
  return {
    tenant,
    tokens,
    timestamp,
    type: String(type),
    model: model ?? null,
    agent: agent ?? null,
    conversation: conversation ?? null,
    operation: operation ?? null,
    fault: firstFault([
      ["tenant", tenant !== undefined],
      ["tokens", tokens !== undefined],
      ["timestamp", timestamp !== undefined],
      ["type", isKnownType],
      ["dimensions", !texts.includes(undefined)],
    ]),
  };
}

const firstFault = (
  checks: readonly (readonly [fault: MemberFault, isRight: boolean])[],
): MemberFault | undefined => checks.find(([, isRight]) => !isRight)?.[0];

/** Undefined = not JSON; JSON itself has no undefined. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Numeric ids are what they look like as text. */
function identifier(value: unknown): string | undefined {
  const text = Number.isSafeInteger(value) ? String(value) : value;
  const isRight = typeof text === "string" && text !== "" && isPlain(text);
  return isRight ? text : undefined;
}

/** Null = there is none, undefined = there is one that cannot be kept. */
function optionalText(value: unknown): string | null | undefined {
  if (value === undefined || value === null || value === "") return null;
  return identifier(value);
}

const isPlain = (text: string): boolean =>
  text.length <= ID_CHARACTERS_MAX && !CONTROL.test(text) && text.isWellFormed();

/** 12, 12.0 and 1.2e1 are the same number in JSON. */
const wholeNumber = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX
    ? value
    : undefined;

const instant = (value: unknown): number | undefined =>
  typeof value === "number" && value > TIMESTAMP_MIN && value < TIMESTAMP_MAX ? value : undefined;

const occurredMs = (timestamp: number): number => Math.floor(timestamp * 1000);

const ageFault = ({ timestamp }: ReadRecord, now: number): MemberFault | undefined =>
  occurredMs(timestamp ?? 0) < now - PAST_MAX_MS ? "occurred_too_old" : undefined;

/**
 * The id of a use: everything that makes it this use, and not `retry_count`, which grows. Stable over the order of the
 * JSON keys, number formats, and null, '' or absent; two honest records that are equal in all of it are one use.
 */
function memberId(tenant: string, record: ReadRecord): string {
  const { tokens, model, agent, conversation, type, timestamp, operation } = record;
  const facts = [tokens, model, agent, conversation, type, timestamp, operation];
  return eventIdOf(tenant, `${LANE}\0${JSON.stringify(facts)}`);
}

function toUse(record: ReadRecord, now: number): UseEntry {
  const { tenant = "", tokens = 0, timestamp = 0, type, model, agent, conversation } = record;
  const occurred = occurredMs(timestamp);
  const period = periodOf(occurred);
  const isAhead = occurred > now + FUTURE_MAX_MS;
  return {
    uid: memberId(tenant, record),
    tenant,
    tokens: String(tokens),
    period,
    billPeriod: isAhead ? Math.min(period, periodOf(now)) : period,
    day: dayOf(occurred),
    type,
    model: model ?? "",
    agent: agent ?? "",
    conversation: conversation ?? "",
    replayOf: "",
  };
}

function setAside(member: string, error: MemberFault, read?: ReadRecord): BadMember {
  const text = JSON.stringify([LANE, member]);
  const isComplete = text.length <= RAW_CHARACTERS_MAX;
  const { tenant, tokens, timestamp } = read ?? {};
  return {
    raw: isComplete ? text : shortened(text),
    isComplete,
    error,
    tenant: tenant ?? null,
    period: timestamp === undefined ? null : periodOf(occurredMs(timestamp)),
    tokens: tokens === undefined ? null : String(tokens),
  };
}

function shortened(text: string): string {
  const sha256 = createHash("sha256").update(text).digest("hex");
  const kept = text.slice(0, RAW_CHARACTERS_MAX);
  return `${kept}… (${text.length} characters, sha256 ${sha256})`;
}
