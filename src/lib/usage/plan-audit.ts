import { SHARD_COUNT } from "./usage-keys.ts";

/** Ledger rows and events that one call compares in a few seconds; every call reads all of them once more. */
const ROWS_PER_CALL = 2_000_000;
/** A call that took longer is followed by half of it, a shorter one by twice as much. The database gives up at 20 s. */
const SLOW_MS = 10_000;
const FAST_MS = 3000;
/** Rows of a shard that nobody knows belong to the last range. */
const LAST_SHARD = 65_535;

/** A range of shards, both included. */
export interface ShardRange {
  readonly from: number;
  readonly to: number;
}

/** How many shards the first call takes, by an estimate of everything that has to be read. */
export const firstWidth = (rows: number): number =>
  clamp(Math.floor((SHARD_COUNT * ROWS_PER_CALL) / Math.max(rows, 1)));

/** How many the next call takes, by how long the last one took. */
export function nextWidth(width: number, tookMs: number): number {
  if (tookMs > SLOW_MS) return halfOf(width);
  return tookMs < FAST_MS ? clamp(width * 2) : width;
}

/** What is tried after a call that was given up; undefined when a single shard already was too much. */
export const narrower = (width: number): number | undefined =>
  width > 1 ? halfOf(width) : undefined;

export const rangeFrom = (from: number, width: number): ShardRange => ({
  from,
  to: from + width >= SHARD_COUNT ? LAST_SHARD : from + width - 1,
});

export const isDone = (nextShard: number): boolean => nextShard > LAST_SHARD;

const halfOf = (width: number): number => clamp(Math.floor(width / 2));
const clamp = (width: number): number => Math.min(SHARD_COUNT, Math.max(1, width));

/** The month before the one of an instant, as yyyymm in UTC. */
export function monthBefore(ms: number): number {
  const date = new Date(ms);
  const months = date.getUTCFullYear() * 12 + date.getUTCMonth() - 1;
  return Math.floor(months / 12) * 100 + (months % 12) + 1;
}
