import type { Clock } from "../kernel/clock.ts";
import { classifyScheduler, type SchedulerFacts } from "./classify-scheduler.ts";

export type ComponentStatus = "available" | "degraded" | "unavailable";

export interface Health {
  readonly cache: ComponentStatus;
  readonly database: ComponentStatus;
  readonly scheduler: ComponentStatus;
  /** When the probes ran. */
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
  readonly dailySchedule: string;
}

/** An answer is due within 1 s even when a backend hangs; the rest is for the way there and back. */
const PROBE_DEADLINE_MS = 700;
/** Slower than this and users notice. */
const SLOW_MS = 300;

/** Probes all backends at once. Never rejects: what does not answer in time is unavailable. */
export async function probeBackends({ clock, probes, dailySchedule }: HealthDeps): Promise<Health> {
  const signal = AbortSignal.timeout(PROBE_DEADLINE_MS);
  const [cache, database, scheduler] = await Promise.all([
    timed(probes.cache(signal), signal),
    timed(probes.database(signal), signal),
    probes.scheduler(signal).then(
      (facts) => classifyScheduler(dailySchedule, facts, clock.now()),
      () => "unavailable" as const,
    ),
  ]);
  return { cache, database, scheduler, checkedAt: clock.now() };
}

async function timed(answer: Promise<void>, signal: AbortSignal): Promise<ComponentStatus> {
  const startedAt = performance.now();
  try {
    await answer;
  } catch {
    return "unavailable";
  }
  return signal.aborted || performance.now() - startedAt > SLOW_MS ? "degraded" : "available";
}
