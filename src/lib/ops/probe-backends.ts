import type { Clock } from "../kernel/clock.ts";
import { callWithin } from "../kernel/deadline.ts";
import { transient } from "../kernel/errors.ts";
import { classifyScheduler, type SchedulerFacts, type WatchedJob } from "./classify-scheduler.ts";

export type ComponentStatus = "available" | "degraded" | "unavailable";

export interface Health {
  readonly cache: ComponentStatus;
  readonly database: ComponentStatus;
  readonly scheduler: ComponentStatus;
  /** When the probes began: what they saw is no older. */
  readonly checkedAt: number;
}

/** Resolves when the backend answers, rejects when it does not. */
export interface Probes {
  cache(signal: AbortSignal): Promise<void>;
  database(signal: AbortSignal): Promise<void>;
  scheduler(signal: AbortSignal): Promise<SchedulerFacts>;
}

export interface HealthDeps {
  readonly clock: Clock;
  readonly probes: Probes;
  readonly watchedJobs: readonly WatchedJob[];
}

/** An answer is due within 1 s even when a backend hangs; the rest is for the way there and back. */
const PROBE_DEADLINE_MS = 700;
/** Slower than this and users notice. */
const SLOW_MS = 300;

/** Probes all backends at once. Never rejects: what does not answer in time is unavailable, whether or not it listens. */
export async function probeBackends({ clock, probes, watchedJobs }: HealthDeps): Promise<Health> {
  const checkedAt = clock.now();
  const [cache, database, scheduler] = await Promise.all([
    judge(probes.cache, (_answer, ms) => bySpeed(ms)),
    judge(probes.database, (_answer, ms) => bySpeed(ms)),
    judge(probes.scheduler, (facts) => classifyScheduler(watchedJobs, facts, checkedAt)),
  ]);
  return { cache, database, scheduler, checkedAt };
}

async function judge<T>(
  probe: (signal: AbortSignal) => Promise<T>,
  status: (answer: T, ms: number) => ComponentStatus,
): Promise<ComponentStatus> {
  const startedAt = performance.now();
  try {
    return status(await callWithin(probeLimits(), probe), performance.now() - startedAt);
  } catch {
    return "unavailable";
  }
}

/** The probes belong to all requests that wait for them, so no request ends them. */
const probeLimits = () => ({
  signal: new AbortController().signal,
  timeoutMs: PROBE_DEADLINE_MS,
  timedOut: () => transient("deadline_exceeded", { ms: PROBE_DEADLINE_MS }),
});

const bySpeed = (ms: number): ComponentStatus => (ms > SLOW_MS ? "degraded" : "available");
