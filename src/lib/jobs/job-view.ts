import type { JobSpec } from "./job.ts";
import type { KnownJob } from "./job-reads.supabase.ts";
import { nextSlot, upcomingSlots } from "./plan-slots.ts";
import type { WhyFacts } from "./why-not-running.ts";

/** A job of the registry, with the schedule that its setting holds. */
export interface CatalogJob extends Omit<JobSpec, "schedule"> {
  /** Name of the setting. */
  readonly setting: string;
  /** NCRONTAB, five or six fields, in `timeZone`. */
  readonly schedule: string;
}

/** The registry as the settings have it. */
export const catalogOf = <Setting extends string>(
  specs: readonly JobSpec<Setting>[],
  schedules: Readonly<Record<Setting, string>>,
): readonly CatalogJob[] =>
  specs.map(({ schedule: setting, ...spec }) => ({
    ...spec,
    setting,
    schedule: schedules[setting],
  }));

/** Shown with each job. */
const NEXT_SLOTS = 3;

/** What the list shows of a job; what the ledger does not know yet is as it is on the first day. */
export function viewJob(job: CatalogJob, known: KnownJob | undefined, now: number) {
  const { id, name, description, schedule, setting, timeZone, dst, overlap, catchUp } = job;
  const isEnabled = known?.isEnabled ?? true;
  return {
    id,
    name,
    description,
    schedule,
    setting,
    timeZone,
    dst,
    overlap,
    catchUp,
    latestStartMs: job.latestStartMs,
    timeoutMs: job.timeoutMs,
    isCritical: job.isCritical,
    isEnabled,
    ...(isEnabled ? NOT_DISABLED : disabledOf(known)),
    nextSlots: upcomingSlots(job, now, NEXT_SLOTS).map(({ at }) => toInstant(at)),
    lastTickAt: known?.lastTickAt ?? null,
    running: known?.running ?? null,
    waiting: known?.waiting ?? null,
    last: known?.last ?? null,
    stats: known?.stats ?? NO_RUNS,
  };
}

const NOT_DISABLED = { disabledAt: null, disabledBy: null, disabledReason: null };
const disabledOf = (known: KnownJob | undefined) => ({
  disabledAt: known?.disabledAt ?? null,
  disabledBy: known?.disabledBy ?? null,
  disabledReason: known?.disabledReason ?? null,
});

const NO_RUNS: KnownJob["stats"] = {
  since: null,
  succeeded: 0,
  failed: 0,
  missed: 0,
  skipped: 0,
  avgMs: null,
  minMs: null,
  maxMs: null,
  p50Ms: null,
  p95Ms: null,
};

/** What `whyNotRunning` judges by. */
export function whyFacts(job: CatalogJob, known: KnownJob | undefined, now: number): WhyFacts {
  const common = { now, nextSlotAt: nextSlot(job, now)?.at };
  if (known === undefined) return { ...common, isEnabled: true, isKnown: false };
  const running = runningOf(known);
  return {
    ...common,
    isKnown: true,
    isEnabled: known.isEnabled,
    disabledBy: known.disabledBy ?? undefined,
    disabledReason: known.disabledReason ?? undefined,
    disabledAt: instantOf(known.disabledAt),
    running,
    waiting: waitingOf(known),
    last: lastOf(known),
    openSlotAt: slotBetween(job, rowsUpTo(known), now),
    slotDuringRunAt: running && slotBetween(job, running.startedAt, now),
  };
}

/** Slots up to here have a row, or are nobody's. */
const rowsUpTo = ({ plannedFrom, lastSlotAt }: KnownJob): number =>
  Math.max(Date.parse(plannedFrom), instantOf(lastSlotAt) ?? 0);

function slotBetween(job: CatalogJob, after: number, until: number): number | undefined {
  const at = nextSlot(job, after)?.at;
  return at !== undefined && at <= until ? at : undefined;
}

function runningOf({ running }: KnownJob): WhyFacts["running"] {
  if (running === null) return undefined;
  const { runId, startedAt, leaseUntil } = running;
  return { runId, startedAt: Date.parse(startedAt), leaseUntil: Date.parse(leaseUntil) };
}

function waitingOf({ waiting }: KnownJob): WhyFacts["waiting"] {
  if (waiting === null) return undefined;
  const { runId, startAfter, reason, failures, crashes, errorCode } = waiting;
  return {
    runId,
    startAfter: instantOf(startAfter),
    reason: reason ?? undefined,
    isRetry: failures > 0 || crashes > 0,
    errorCode: errorCode ?? undefined,
  };
}

function lastOf({ last }: KnownJob): WhyFacts["last"] {
  if (last === null) return undefined;
  const { runId, status, dueAt, finishedAt, reason, errorCode } = last;
  return {
    runId,
    status,
    endedAt: Date.parse(finishedAt ?? dueAt),
    reason: reason ?? undefined,
    errorCode: errorCode ?? undefined,
  };
}

const instantOf = (text: string | null): number | undefined =>
  text === null ? undefined : Date.parse(text);

const toInstant = (ms: number): string => new Date(ms).toISOString();
