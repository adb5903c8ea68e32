import { hash, randomUUID } from "node:crypto";
import { crc32 } from "node:zlib";

/**
 * Names, hashes and time rules that every producer in every language must agree on; the test vectors are in
 * `docs/reference/usage-producer.md`. Pure.
 */

/** Part of the contract, not a setting: changing it means migrating the keys. */
export const SHARD_COUNT = 256;

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const DAY_SECONDS = 86_400;
/** A counter outlives its period by the time a late consolidation or an audit may need it. */
const COUNTER_KEPT_DAYS = 45;
/** A counter that is created late, for an old period, still lives this long. */
const COUNTER_KEPT_MIN_DAYS = 7;
const LINEAGE_CHARACTERS = 8;

/** How long an event id is remembered in Redis: its hour bucket and the one before, and some slack. */
export const DEDUPE_TTL_SECONDS = 7800;

/** CRC-32 (IEEE) of the UTF-8 bytes of the tenant id, modulo the number of shards. */
export const shardOf = (tenant: string): number => crc32(tenant) % SHARD_COUNT;

export interface ShardKeys {
  /** Hash: inc, n, cum, cnt, rep, `rw:<inc>`. No TTL. */
  readonly meta: string;
  /** Stream, one packed field `d` per entry. No TTL; trimmed by the worker. */
  readonly log: string;
  /** Hash tenant → tokens. Expires after its period. */
  counter(period: number): string;
  /** Set of event ids. Expires after `DEDUPE_TTL_SECONDS`. */
  dedupe(bucket: number): string;
}

/** All keys of a shard share one hash tag, so that a script touches one slot. */
export const keysOf = (shard: number): ShardKeys => ({
  meta: `{u:${shard}}:m`,
  log: `{u:${shard}}:p`,
  counter: (period) => `{u:${shard}}:c:${period}`,
  dedupe: (bucket) => `{u:${shard}}:d:${bucket}`,
});

/**
 * The id of a use: the first 128 bits of SHA-256 over tenant, a zero byte and request id, written as a UUID. Always
 * hashed, also when the request id already is a UUID: an id that passes through would let one tenant collide with
 * another.
 */
export function eventIdOf(tenant: string, requestId: string): string {
  const hex = hash("sha256", `${tenant}\0${requestId}`, "hex");
  const part = (from: number, to: number) => hex.slice(from, to);
  return `${part(0, 8)}-${part(8, 12)}-${part(12, 16)}-${part(16, 20)}-${part(20, 32)}`;
}

/** The accounting period of an instant: the number yyyymm, in UTC. */
export const periodOf = (ms: number): number => {
  const date = new Date(ms);
  return date.getUTCFullYear() * 100 + date.getUTCMonth() + 1;
};

/** Days since 1970-01-01, UTC: the partition of an event. */
export const dayOf = (ms: number): number => Math.floor(ms / DAY_MS);

/** Follows the time of occurrence, so that a retry always looks where the first attempt was. */
export const dedupeBucketOf = (ms: number): number => Math.floor(ms / HOUR_MS);

/** First second after a period, in seconds since 1970. */
const periodEnd = (period: number): number =>
  Date.UTC(Math.floor(period / 100), period % 100, 1) / 1000;

/**
 * When a counter expires, in seconds since 1970. Never in the past: `EXPIREAT` behind now deletes the key at once, and
 * a late use of an old period would create its counter and lose it in the same call.
 */
export const counterExpiryOf = (period: number, nowMs: number): number =>
  Math.max(
    periodEnd(period) + COUNTER_KEPT_DAYS * DAY_SECONDS,
    Math.floor(nowMs / 1000) + COUNTER_KEPT_MIN_DAYS * DAY_SECONDS,
  );

/** Random, because two sides may have to invent a lineage at the same time. */
export const newLineage = (): string => randomUUID().slice(0, LINEAGE_CHARACTERS);

/** `yyyymm` from 2000 to 2099 with a real month. */
export const isPeriod = (period: number): boolean =>
  Number.isInteger(period) &&
  period >= 200_001 &&
  period <= 209_912 &&
  period % 100 >= 1 &&
  period % 100 <= 12;
