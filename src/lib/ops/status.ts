import type { Clock } from "../kernel/clock.ts";
import { callWithin } from "../kernel/deadline.ts";
import { transient } from "../kernel/errors.ts";
import type { CachedHealth } from "./cached-health.ts";
import type { ComponentStatus } from "./probe-backends.ts";
import type { Fleet, FleetView } from "./status-fleet.ts";
import type { Amount, Cpu, Network, ProcessUse, SystemReader } from "./status-system.ts";

/** What the ledger knows about the runs of a job. Durations in milliseconds, of runs that ended. */
export interface JobRuns {
  readonly isActive: boolean;
  readonly succeeded: number;
  readonly failed: number;
  readonly avgMs: number | null;
  readonly minMs: number | null;
  readonly maxMs: number | null;
  /** The newest run that ended: when it started, and how it ended. */
  readonly last: { readonly at: number; readonly status: string } | null;
}

/** A job, as the status shows it. */
export interface JobStatus {
  readonly id: string;
  /** In Spanish, as the requirements have it. */
  readonly name: string;
  readonly schedule: string;
  readonly isCritical: boolean;
  readonly latestStartMs: number;
  readonly runsMax: number;
  readonly nextAt: number | undefined;
  /** Undefined = the ledger could not be read. */
  readonly runs: JobRuns | undefined;
}

export interface JobStatuses {
  /** What is known without a database: no `runs`. */
  planned(): readonly JobStatus[];
  read(signal: AbortSignal): Promise<readonly JobStatus[]>;
}

export interface StatusDeps {
  readonly clock: Clock;
  readonly health: CachedHealth;
  readonly fleet: Pick<Fleet, "read">;
  readonly systemReader: SystemReader;
  readonly jobStatuses: JobStatuses;
}

export type Components = Readonly<Record<"cache" | "database" | "scheduler", ComponentStatus>>;

/** The whole service at one moment. A section that did not answer in time is null, or what was last known. */
export interface StatusView {
  readonly at: number;
  readonly components: Components;
  readonly fleet: FleetView | null;
  readonly jobs: readonly JobStatus[];
  readonly cpu: Cpu | null;
  readonly memory: Amount | null;
  readonly disk: Amount | null;
  readonly network: Network | null;
  readonly process: ProcessUse | null;
  /** Names of the sections that are missing or old. */
  readonly degraded: readonly string[];
}

/** The whole answer is due within 300 ms; the rest is for the way there and back. */
export const SECTION_DEADLINE_MS = 200;
/** Polling never loads the backends. */
const FRESH_MS = 2000;

/** Until a probe said otherwise: it did not answer in time, and that is all that is known. */
const UNSURE: Components = { cache: "degraded", database: "degraded", scheduler: "degraded" };

/**
 * Reads all sections at once and never rejects. One reading at a time per process, at most 2 s old when it is shown;
 * a reading belongs to all requests that wait for it, so none of them ends it.
 */
export function statusReader(deps: StatusDeps): { read(): Promise<StatusView> } {
  let known: { readonly at: number; readonly view: Promise<StatusView> } | undefined;
  const last: Remembered = {};
  return {
    read: () => {
      const age = known === undefined ? Number.POSITIVE_INFINITY : deps.clock.now() - known.at;
      if (known === undefined || age < 0 || age >= FRESH_MS)
        known = { at: deps.clock.now(), view: readSections(deps, last) };
      return known.view;
    },
  };
}

/** What stays true for a while when it cannot be read. */
interface Remembered {
  components?: Components;
  fleet?: FleetView;
  jobs?: readonly JobStatus[];
}

async function readSections(deps: StatusDeps, last: Remembered): Promise<StatusView> {
  const { clock, health, fleet, systemReader: system, jobStatuses } = deps;
  const degraded: string[] = [];
  const section = async <T>(name: string, work: Work<T>): Promise<T | null> => {
    try {
      return await callWithin(sectionLimits(), work);
    } catch {
      degraded.push(name);
      return null;
    }
  };
  const at = clock.now();
  const [components, copies, jobs, cpu, memory, disk, network, process] = await Promise.all([
    section("components", () => health.read()),
    section("fleet", (signal) => fleet.read(signal)),
    section("jobs", (signal) => jobStatuses.read(signal)),
    section("cpu", () => system.cpu()),
    section("memory", () => system.memory()),
    section("disk", () => system.disk()),
    section("network", () => system.network()),
    section("process", () => system.process()),
  ]);
  if (components !== null) last.components = components;
  if (copies !== null) last.fleet = copies;
  if (jobs !== null) last.jobs = jobs;
  return {
    at,
    components: last.components ?? UNSURE,
    fleet: copies ?? last.fleet ?? null,
    jobs: jobs ?? last.jobs ?? jobStatuses.planned(),
    ...{ cpu, memory, disk, network, process },
    degraded: degraded.sort(),
  };
}

type Work<T> = (signal: AbortSignal) => Promise<T>;

const sectionLimits = () => ({
  signal: new AbortController().signal,
  timeoutMs: SECTION_DEADLINE_MS,
  timedOut: () => transient("deadline_exceeded", { ms: SECTION_DEADLINE_MS }),
});
