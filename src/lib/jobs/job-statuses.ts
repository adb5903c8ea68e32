import type { Clock } from "../kernel/clock.ts";
import type { JobReads, KnownJob } from "./job-reads.supabase.ts";
import type { CatalogJob } from "./job-view.ts";
import { nextSlot } from "./plan-slots.ts";

/** A job that may overlap itself has no limit of its own; this is as good as none. */
const OVERLAPPING_MAX = 100;

/** All jobs for the status: as planned, and with what the ledger knows. */
export const jobStatuses = (
  catalog: readonly CatalogJob[],
  reads: Pick<JobReads, "jobs">,
  clock: Clock,
) => ({
  planned: () => catalog.map((job) => statusOf(job, undefined, clock.now())),
  read: async (signal: AbortSignal) => {
    const { jobs } = await reads.jobs(undefined, signal);
    const known = new Map(jobs.map((job) => [job.id, job]));
    return catalog.map((job) => ({
      ...statusOf(job, known.get(job.id), clock.now()),
      runs: runsOf(known.get(job.id)),
    }));
  },
});

function statusOf(job: CatalogJob, known: KnownJob | undefined, now: number) {
  const { id, name, schedule, isCritical, latestStartMs, overlap } = job;
  return {
    id,
    name: name.es,
    schedule,
    isCritical,
    latestStartMs,
    runsMax: overlap === "skip" ? 1 : OVERLAPPING_MAX,
    nextAt: known?.isEnabled === false ? undefined : nextSlot(job, now)?.at,
    runs: undefined,
  };
}

/** A job that no instance has told of yet never ran: that is known. */
function runsOf(known: KnownJob | undefined) {
  const {
    succeeded = 0,
    failed = 0,
    avgMs = null,
    minMs = null,
    maxMs = null,
  } = known?.stats ?? {};
  const last = known?.last ?? null;
  return {
    isActive: known?.isEnabled ?? true,
    ...{ succeeded, failed, avgMs, minMs, maxMs },
    last:
      last === null
        ? null
        : { at: Date.parse(last.startedAt ?? last.dueAt), status: String(last.status) },
  };
}
