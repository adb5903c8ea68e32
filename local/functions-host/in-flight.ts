import { setTimeout as sleep } from "node:timers/promises";

/** Work that a stop waits for. */
export interface InFlight {
  /** Hands the promise back, and holds it until it settles. */
  track<T>(work: Promise<T>): Promise<T>;
  size(): number;
  /** Resolves when nothing is held any more, or after `withinMs`. */
  drain(withinMs: number): Promise<void>;
}

export function createInFlight(): InFlight {
  const running = new Set<Promise<unknown>>();
  const allSettled = async () => {
    while (running.size > 0) await Promise.allSettled(running);
  };
  return {
    track: (work) => {
      running.add(work);
      const forget = () => void running.delete(work);
      work.then(forget, forget);
      return work;
    },
    size: () => running.size,
    drain: async (withinMs) => {
      const done = new AbortController();
      const bound = sleep(withinMs, undefined, { signal: done.signal }).catch(() => {});
      await Promise.race([allSettled(), bound]);
      done.abort();
    },
  };
}
