import { createHash } from "node:crypto";
import type { AppError } from "./errors.ts";

/**
 * What Redis answered, untouched: a string is never parsed, a number is an integer of at most 2^53 - 1. A larger
 * integer ends the call with `redis_reply_unexpected` (bug) rather than rounded: read such values as strings.
 */
export type RedisReply = string | number | null | readonly RedisReply[];

export type RedisCommand = readonly [name: string, ...args: string[]];

export interface RedisScript {
  /** For people and errors: kebab-case, verb-noun. */
  readonly name: string;
  readonly source: string;
  /** SHA-1 of `source` in hex, as Redis computes it. */
  readonly sha1: string;
}

export interface ScriptCall {
  readonly script: RedisScript;
  /** Every key the script touches, all on one hash slot. */
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

/**
 * Redis as the adapters see it. Every call ends by its deadline or its signal, whichever comes first. No call is sent
 * twice: a call that failed with `redis_unavailable` or `deadline_exceeded` may have taken effect, so writes that
 * must not repeat carry an id that Redis checks.
 *
 * The connection is shared. Blocking reads, subscriptions and commands that change the connection are refused
 * (`invariant_broken`).
 *
 * Errors: `redis_unavailable` (transient) · `redis_refused` (permanent) · `redis_reply_unexpected` (bug), each with
 * `details.code`, the first word of Redis' own message or the code of the connection error · `deadline_exceeded`.
 */
export interface RedisDriver {
  readonly kind: "upstash" | "ioredis";
  command(command: RedisCommand, signal: AbortSignal): Promise<RedisReply>;
  /**
   * Independent commands in as few round trips as their size allows, in order; in a cluster the order holds within
   * each hash slot. A command that fails is an error at its place and the others count. Rejects only when no command
   * got an answer.
   */
  pipeline(
    commands: readonly RedisCommand[],
    signal: AbortSignal,
  ): Promise<readonly (RedisReply | AppError)[]>;
  /**
   * MULTI … EXEC: one instant, all keys on one hash slot. Rejects with the first error. Redis does not roll back: when
   * a command fails while it runs (not while it is queued), the others have taken effect.
   */
  transaction(
    commands: readonly RedisCommand[],
    signal: AbortSignal,
  ): Promise<readonly RedisReply[]>;
  /** EVALSHA, and EVAL when Redis does not know the script. */
  script(call: ScriptCall, signal: AbortSignal): Promise<RedisReply>;
  /** Like `pipeline`. Calls that Redis does not know the script for are sent again with its text, and only those. */
  scripts(
    calls: readonly ScriptCall[],
    signal: AbortSignal,
  ): Promise<readonly (RedisReply | AppError)[]>;
  /** Ends calls in flight and refuses later ones, both with `redis_unavailable`. Leaves no handle. Safe to repeat. */
  close(): Promise<void>;
}

export const redisScript = (name: string, source: string): RedisScript => ({
  name,
  source,
  sha1: createHash("sha1").update(source).digest("hex"),
});
