import { z } from "zod";

/** Part of the contract: what Redis and the ledger add up exactly, and what a slip of the keyboard exceeds. */
export const TOKENS_MAX = 1_000_000_000_000_000;
const ID_CHARACTERS_MAX = 200;
const DIMENSION_CHARACTERS_MAX = 100;
const METADATA_BYTES_MAX = 2048;
/** Clocks differ; more than this ahead is a wrong clock or a wrong unit. */
export const FUTURE_MAX_MS = 5 * 60_000;
/** Older uses need a back-fill that an operator approves. */
export const PAST_MAX_MS = 35 * 86_400_000;

export const TOKEN_TYPES = ["llm", "embedding"] as const;
export type TokenType = (typeof TOKEN_TYPES)[number];

/** One billable fact. `requestId` and `occurredAt` are fixed at the first attempt and reused in every retry. */
export interface UsageRecord {
  readonly tenant: string;
  /** Whole number, negative only for credits; |tokens| ≤ 10^15. */
  readonly tokens: number;
  /** Made by the server, never taken from the end user; unique per tenant and billable fact. */
  readonly requestId: string;
  /** Milliseconds since 1970, UTC. */
  readonly occurredAt: number;
  readonly type: TokenType;
  readonly model?: string | undefined;
  readonly agentId?: string | undefined;
  readonly conversationId?: string | undefined;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this refuses
const CONTROL = /[\u0000-\u001f\u007f]/;
const hasControl = (text: string): boolean => CONTROL.test(text);

const identifier = z
  .string()
  .min(1, "must not be empty")
  .max(ID_CHARACTERS_MAX, `must have at most ${ID_CHARACTERS_MAX} characters`)
  .refine((text) => !hasControl(text), "must not contain control characters")
  .refine((text) => text.isWellFormed(), "must be well-formed Unicode");

/** Travels in the log entry between `|`, so it may not contain one. */
const dimension = z
  .string()
  .max(DIMENSION_CHARACTERS_MAX, `must have at most ${DIMENSION_CHARACTERS_MAX} characters`)
  .refine(
    (text) => !hasControl(text) && !text.includes("|"),
    "must not contain | or control characters",
  )
  .refine((text) => text.isWellFormed(), "must be well-formed Unicode");

export const TenantSchema = identifier;

/** The input of `POST /usage`, judged at the instant `nowMs`. */
export const usageRecordSchema = (nowMs: () => number) =>
  z.strictObject({
    tenant: identifier.describe("Tenant id; it decides the shard."),
    tokens: z
      .int("must be a whole number")
      .min(-TOKENS_MAX, "must be at least -10^15")
      .max(TOKENS_MAX, "must be at most 10^15")
      .describe("Tokens used; negative for a credit."),
    requestId: identifier.describe("Unique per tenant and billable fact; reuse it in every retry."),
    occurredAt: z.iso
      .datetime({ offset: true, error: "must be an ISO 8601 instant with a zone" })
      .refine((text) => Date.parse(text) <= nowMs() + FUTURE_MAX_MS, "lies in the future")
      .refine((text) => Date.parse(text) >= nowMs() - PAST_MAX_MS, "is more than 35 days old")
      .describe("When it happened; fixed at the first attempt."),
    type: z.enum(TOKEN_TYPES, "must be llm or embedding").default("llm"),
    model: dimension.optional(),
    agentId: dimension.optional(),
    conversationId: dimension.optional(),
    metadata: z
      .record(z.string(), z.unknown())
      .refine(
        (value) => Buffer.byteLength(JSON.stringify(value)) <= METADATA_BYTES_MAX,
        `must have at most ${METADATA_BYTES_MAX} bytes of JSON`,
      )
      .optional()
      .describe("Checked for size and not stored: the ledger keeps amounts, not content."),
  });

/** `type|model|agent|conversation`, as the log entry carries it. */
export const packDimensions = (record: UsageRecord): string =>
  [record.type, record.model ?? "", record.agentId ?? "", record.conversationId ?? ""].join("|");
