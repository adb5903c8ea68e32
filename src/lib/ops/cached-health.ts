import type { Clock } from "../kernel/clock.ts";
import type { Health } from "./probe-backends.ts";

/** Polling never loads the backends: at most one probe in this time, whatever the request rate. */
const FRESH_MS = 1000;
/** Older than this is never shown; between the two a request gets the known answer while a probe runs behind it. */
const SHOWN_MS = 2000;

export interface CachedHealth {
  read(): Promise<Health>;
}

/** One probe at a time per process. A probe that fails is not remembered; the next read tries again. */
export function cachedHealth(clock: Clock, probe: () => Promise<Health>): CachedHealth {
  let known: Health | undefined;
  let running: Promise<Health> | undefined;
  const refresh = async (): Promise<Health> => {
    known = await probe();
    return known;
  };
  return {
    read: async () => {
      const age = known === undefined ? Number.POSITIVE_INFINITY : clock.now() - known.checkedAt;
      const isPast = age >= 0; // a clock that was set back must not keep an answer for hours
      if (known !== undefined && isPast && age < FRESH_MS) return known;
      running ??= refresh().finally(() => {
        running = undefined;
      });
      if (known === undefined || !isPast || age >= SHOWN_MS) return running;
      running.catch(() => {}); // nobody waits for it; the read that does will see its failure
      return known;
    },
  };
}
