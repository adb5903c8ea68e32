import type { Clock } from "../../kernel/clock.ts";
import { sleepUntil } from "../../kernel/retry.ts";

export interface TokenBucket {
  /** Waits until `tokens` may be spent; callers are served in the order in which they ask. */
  take(tokens: number, signal: AbortSignal): Promise<void>;
}

const MINUTE_MS = 60_000;
/** The provider looks at shorter times than a minute: no more than ten seconds' worth at once. */
const BURST_MS = 10_000;

export interface BucketOptions {
  readonly perMinute: number;
  readonly clock: Clock;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Holds the rate of one process; other instances have buckets of their own, and the provider's 429 tells when all of
 * them together ask for too much.
 */
export function createTokenBucket({
  perMinute,
  clock,
  sleep = sleepUntil,
}: BucketOptions): TokenBucket {
  const perMs = perMinute / MINUTE_MS;
  let level = perMs * BURST_MS;
  let filledAt = clock.now();
  return {
    take: async (tokens, signal) => {
      const now = clock.now();
      level = Math.min(perMs * BURST_MS, level + Math.max(0, now - filledAt) * perMs);
      filledAt = now;
      level -= tokens; // below zero: who comes next waits for this one too
      if (level < 0) await sleep(Math.ceil(-level / perMs), signal);
    },
  };
}
