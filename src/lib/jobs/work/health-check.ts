import { callWithin } from "../../kernel/deadline.ts";
import { toFailure, transient } from "../../kernel/errors.ts";
import type { JobReport, JobRun } from "../job.ts";

/** One thing that is looked at. What it returns stands in the report of the run: counts and ids, a few hundred bytes. */
export interface HealthPart {
  readonly name: string;
  readonly check: (run: JobRun) => Promise<JobReport>;
}

export interface HealthCheckDeps {
  /** Each looks at one thing and raises or resolves its alerts; they work at the same time. */
  readonly healthParts: readonly HealthPart[];
  /** Tells people: begins when the others are done. */
  readonly healthNotify: readonly HealthPart[];
}

/** Of one part; with the notices after it a run stays below its minute. */
const PART_TIMEOUT_MS = 20_000;
const NOTIFY_TIMEOUT_MS = 35_000;
/** What one part may say; a run's report is bounded. */
const SAID_CHARACTERS_MAX = 1500;

type PartReport = JobReport & { readonly ok: boolean; readonly ms: number };

/**
 * Looks at everything once a minute. A part that fails, or takes too long, stops no other; the run's report lists each
 * part. Safe to run twice: parts raise alerts by key, and a notice is sent once.
 */
export async function checkHealth(
  { healthParts, healthNotify }: HealthCheckDeps,
  run: JobRun,
): Promise<JobReport> {
  const checked = await inspect(healthParts, PART_TIMEOUT_MS, run);
  const told = await inspect(healthNotify, NOTIFY_TIMEOUT_MS, run);
  const parts = Object.fromEntries([...checked, ...told]);
  const failed = Object.keys(parts).filter((name) => parts[name]?.ok === false);
  run.note({ failedParts: failed });
  const health = parts["probes"]?.["health"];
  return { ...(health === undefined ? {} : { health }), failed, parts };
}

const inspect = (parts: readonly HealthPart[], timeoutMs: number, run: JobRun) =>
  Promise.all(
    parts.map(async (part) => [part.name, await inspectPart(part, timeoutMs, run)] as const),
  );

async function inspectPart(
  { name, check }: HealthPart,
  timeoutMs: number,
  run: JobRun,
): Promise<PartReport> {
  const startedAt = performance.now();
  const since = () => Math.round(performance.now() - startedAt);
  const limits = {
    signal: run.signal,
    timeoutMs,
    timedOut: () => transient("deadline_exceeded", { ms: timeoutMs }),
  };
  try {
    const said = await callWithin(limits, (signal) => check({ ...run, signal }));
    return { ...bounded(said), ok: true, ms: since() };
  } catch (error) {
    const { code } = toFailure(error);
    run.log.warn("health_part_failed", { part: name, code, error });
    return { ok: false, ms: since(), code };
  }
}

const bounded = (said: JobReport): JobReport =>
  JSON.stringify(said).length <= SAID_CHARACTERS_MAX
    ? said
    : { cut: Object.keys(said).slice(0, 20) };
