import type { Clock } from "../kernel/clock.ts";
import type { Health } from "./probe-backends.ts";

/** Polling never loads the backends: at most one probe in this time, whatever the request rate. */
const FRESH_MS = 1000;
/** Older than this is never shown; between the two a request gets the known answer while a probe runs behind it. */
const SHOWN_MS = 2000;

export interface CachedHealth {
  read(): Promise<Health>;
}

/** One probe at a time per process. */
export function cachedHealth(clock: Clock, probe: () => Promise<Health>): CachedHealth {
  let known: Health | undefined;
  let running: Promise<Health> | undefined;
  const refresh = (): Promise<Health> => {
    running ??= probe()
      .then((health) => {
        known = health;
        return health;
      })
      .finally(() => {
        running = undefined;
      });
    return running;
  };
  return {
    read: () => {
      const age = known === undefined ? Number.POSITIVE_INFINITY : clock.now() - known.checkedAt;
      if (known !== undefined && age < FRESH_MS) return Promise.resolve(known);
      const next = refresh();
      return known !== undefined && age < SHOWN_MS ? Promise.resolve(known) : next;
    },
  };
}
