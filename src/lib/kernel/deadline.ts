import { AppError, transient } from "./errors.ts";

/** The longest delay a Node timer can hold; a longer one would fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/**
 * A signal that aborts with its parent or after `ms`, whichever comes first. It never keeps the process alive. Where
 * the work has an end of its own, `callWithin` also frees the timer at that end.
 *
 * `AbortSignal.any` would do the same, but Node 22 keeps every signal it made for as long as the parent lives.
 */
export function withDeadline(signal: AbortSignal, ms: number): AbortSignal {
  const controller = new AbortController();
  const abort = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    controller.abort(signal.aborted ? abortError(signal) : transient("deadline_exceeded", { ms }));
  };
  const timer = setTimeout(abort, Math.min(ms, TIMER_MAX_MS)).unref();
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return controller.signal;
}

/**
 * Waits for `promise`, but not longer than the signal. The promise itself goes on; what it ends with after the abort
 * is dropped.
 *
 * @throws AppError the signal's reason when that is an AppError, else transient `deadline_exceeded`.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(abortError(signal));
    const settled = () => signal.removeEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(settled);
  });
}

/** What an aborted signal means to the one who waited. */
export function abortError(signal: AbortSignal): AppError {
  const reason: unknown = signal.reason;
  return reason instanceof AppError ? reason : transient("deadline_exceeded", {}, reason);
}

export interface CallLimits {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** What a call that took too long ends with. */
  readonly timedOut: () => AppError;
  /** Lets the owner end the call with an AppError as reason. */
  readonly controller?: AbortController;
}

/**
 * Runs `work` with a signal of its own, which aborts with the caller's or after `timeoutMs`. The call ends then,
 * whether or not `work` listens. Timer and listener are gone when it ends.
 */
export async function callWithin<T>(
  { signal, timeoutMs, timedOut, controller = new AbortController() }: CallLimits,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (signal.aborted) throw abortError(signal);
  const onAbort = () => controller.abort(abortError(signal));
  const timer = setTimeout(() => controller.abort(timedOut()), Math.min(timeoutMs, TIMER_MAX_MS));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await untilAborted(work(controller.signal), controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

export interface PeerLimits {
  /** Longest time of one call, in milliseconds. */
  readonly timeoutMs: number;
  /** Calls at the same time; one more fails at once instead of piling up while the peer is away. */
  readonly inFlightMax: number;
  /** `TIMEOUT`, `BACKLOG` or `CLOSED`, as a transient error of this peer. */
  readonly unavailable: (code: string) => AppError;
}

/** The calls to one peer. Each ends by its deadline; `close` ends all of them, and every later one. */
export interface PeerCalls {
  run<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  close(): void;
}

export function limitCalls({ timeoutMs, inFlightMax, unavailable }: PeerLimits): PeerCalls {
  const inFlight = new Set<AbortController>();
  let isClosed = false;
  return {
    run: async (signal, work) => {
      if (isClosed) throw unavailable("CLOSED");
      if (inFlight.size >= inFlightMax) throw unavailable("BACKLOG");
      const controller = new AbortController();
      inFlight.add(controller);
      try {
        const timedOut = () => unavailable("TIMEOUT");
        return await callWithin({ signal, timeoutMs, timedOut, controller }, work);
      } finally {
        inFlight.delete(controller);
      }
    },
    close: () => {
      isClosed = true;
      for (const controller of inFlight) controller.abort(unavailable("CLOSED"));
    },
  };
}
