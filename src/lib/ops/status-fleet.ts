import type { Clock } from "../kernel/clock.ts";
import { withDeadline } from "../kernel/deadline.ts";

/** Running copies of the service. Instants in milliseconds. */
export interface FleetView {
  /** The clock of the database. */
  readonly now: number;
  /** Since when at least one copy runs without a break; null when none was seen lately. */
  readonly upSince: number | null;
  readonly instances: readonly {
    readonly id: string;
    readonly startedAt: number;
    readonly seenAt: number;
    readonly memoryMb: number;
  }[];
}

export interface Fleet {
  seen(
    instance: { readonly id: string; readonly uptimeMs: number; readonly memoryMb: number },
    signal: AbortSignal,
  ): Promise<void>;
  read(signal: AbortSignal): Promise<FleetView>;
}

/** How often an instance that works says so. */
const BEAT_EVERY_MS = 30_000;
const BEAT_DEADLINE_MS = 5000;
const MB = 1024 ** 2;

export interface Heartbeat {
  /** Returns at once; an invocation never waits for it. */
  beat(): void;
}

/** Says that this instance runs, as long as it has work: one that is idle is none that could be asked. */
export function heartbeat(id: string, clock: Clock, fleet: Pick<Fleet, "seen">): Heartbeat {
  let lastAt = Number.NEGATIVE_INFINITY;
  return {
    beat: () => {
      const age = clock.now() - lastAt;
      if (age >= 0 && age < BEAT_EVERY_MS) return;
      lastAt = clock.now();
      const uptimeMs = Math.round(performance.now());
      const memoryMb = Math.round(process.memoryUsage.rss() / MB);
      const signal = withDeadline(new AbortController().signal, BEAT_DEADLINE_MS);
      // Not told: a database that does not answer shows in /health, and the next invocation beats again.
      fleet.seen({ id, uptimeMs, memoryMb }, signal).catch(() => {});
    },
  };
}
