import { setTimeout as delay } from "node:timers/promises";
import { abortError } from "./deadline.ts";
import { type Failure, toFailure } from "./errors.ts";

export interface Backoff {
  /** Upper end of the first delay, in milliseconds; it doubles with every attempt. */
  readonly baseMs: number;
  /** Upper end of every delay, in milliseconds. */
  readonly capMs: number;
  /** A number from 0 up to, not including, 1. */
  readonly random?: () => number;
}

export interface RetryOptions extends Backoff {
  /** Calls of `work` altogether, at least 1. */
  readonly attempts: number;
  readonly signal: AbortSignal;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Calls `work` until it succeeds, at most `attempts` times. Only transient errors are tried again. A peer that asks
 * for more patience than `capMs` is not waited for: its error goes to the caller, who can reschedule.
 *
 * @throws the error of the last attempt, also when the signal aborts while waiting for the next one; the abort itself
 * only when the signal was aborted before the first.
 */
export async function retry<T>(
  work: (attempt: number) => Promise<T>,
  options: RetryOptions,
): Promise<T> {
  const { attempts, signal, sleep = sleepUntil } = options;
  if (signal.aborted) throw abortError(signal);
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      const pauseMs =
        attempt < attempts ? pauseAfter(toFailure(error), attempt, options) : undefined;
      if (pauseMs === undefined || signal.aborted) throw error;
      await sleep(pauseMs, signal).catch(() => {});
      if (signal.aborted) throw error;
    }
  }
}

/** Full jitter: anything up to the exponential delay, so that many waiters spread out. `attempt` counts from 1. */
export function backoffMs(
  attempt: number,
  { baseMs, capMs, random = Math.random }: Backoff,
): number {
  return Math.floor(random() * Math.min(capMs, baseMs * 2 ** (attempt - 1)));
}

/** Undefined when another attempt makes no sense. */
function pauseAfter(failure: Failure, attempt: number, backoff: Backoff): number | undefined {
  if (failure.kind !== "transient") return undefined;
  const asked = Number(failure.details["retryAfterMs"] ?? 0);
  return asked > backoff.capMs ? undefined : Math.max(asked, backoffMs(attempt, backoff));
}

/** Ends early, with an error, when the signal aborts. */
export const sleepUntil = (ms: number, signal: AbortSignal): Promise<void> =>
  delay(ms, undefined, { signal });

/** Longer waits are nobody's intention, and would hide work from its operator. */
const RETRY_AFTER_MAX_MS = 3_600_000;

/**
 * The wait that an HTTP peer asked for: seconds, or a date, which is read against the peer's own clock. Undefined when
 * it asked for none or wrote something else. At most one hour.
 */
export function retryAfterMs(headers: {
  get(name: string): string | null | undefined;
}): number | undefined {
  const text = headers.get("retry-after")?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Math.min(Number(text) * 1000, RETRY_AFTER_MAX_MS);
  const ms = Date.parse(text) - Date.parse(headers.get("date") ?? "");
  // Date.parse also makes a date of "-1".
  return !text.endsWith("GMT") || Number.isNaN(ms)
    ? undefined
    : Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS);
}
