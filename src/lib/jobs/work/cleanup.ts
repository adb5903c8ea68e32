import type { Clock } from "../../kernel/clock.ts";
import { AppError, toFailure } from "../../kernel/errors.ts";
import type { JobReport, JobRun } from "../job.ts";

/** Categories of rows that one SQL function deletes; what is live is none of them. */
export const CLEANUP_ROWS = [
  "job_runs",
  "work_items",
  "dead_items",
  "work_replays",
  "alerts",
  "alert_messages",
  "reports",
  "instances",
  "canaries",
] as const;
export type CleanupRows = (typeof CLEANUP_ROWS)[number];

export interface CleanupConfig {
  /** How long each category is kept after it ended, in days. */
  readonly retainDays: Readonly<Record<CleanupRows | "exports", number>>;
  /** Runs of each job that are kept however old they are. */
  readonly runsKept: number;
}

export interface CleanupBatch {
  readonly what: CleanupRows;
  /** Instant. */
  readonly before: number;
  readonly keep: number;
  readonly limit: number;
  readonly runId: string;
  readonly fence: number;
}

export interface RowCleaner {
  /** One bounded transaction under the fence of the run; deletes nothing once somebody else has it. */
  deleteBatch(batch: CleanupBatch, signal: AbortSignal): Promise<number>;
}

/** What lies in blobs: exports, and files that a broken attempt left behind. */
export interface ExportCleaner {
  /** Removes exports of weeks that began before `before`, blobs first. */
  removeExpired(
    options: { readonly before: number; readonly limit: number },
    run: JobRun,
  ): Promise<number>;
  /** Removes blobs that no export knows and that nobody wrote to since `before`. */
  removeOrphans(
    options: { readonly before: number; readonly limit: number },
    run: JobRun,
  ): Promise<number>;
}

export interface CleanupDeps {
  readonly clock: Clock;
  readonly cleanupConfig: CleanupConfig;
  readonly rowCleaner: RowCleaner;
  readonly exportCleaner: ExportCleaner;
}

const DAY_MS = 86_400_000;
/** Rows of one transaction: short enough that nobody waits for its locks. */
const BATCH_ROWS = 1000;
/** Of one category in one run; what is left is for the next hour. */
const BATCHES_MAX = 50;
const EXPORTS_MAX = 20;
const ORPHANS_MAX = 500;
/** A blob may be in the making for as long as a run may take, and its row comes after it. */
const ORPHAN_AGE_MS = 2 * DAY_MS;

/**
 * Deletes what ended longer ago than it is kept, in bounded batches: a run that dies halfway loses nothing, and the next
 * one goes on. One category that fails does not stop the others; the run fails at its end and says which.
 */
export async function cleanUp(deps: CleanupDeps, run: JobRun): Promise<JobReport> {
  const now = deps.clock.now();
  const removed: Record<string, number> = {};
  const failed: Record<string, string> = {};
  const left: string[] = [];
  const errors: unknown[] = [];
  for (const category of categoriesOf(deps, now, run)) {
    try {
      const { count, isLeft } = await category.remove();
      removed[category.name] = count;
      if (isLeft) left.push(category.name);
    } catch (error) {
      errors.push(error);
      failed[category.name] = toFailure(error).code;
      run.log.warn("cleanup_failed", { category: category.name, error });
    }
    run.progress({ removed });
  }
  run.note({ removed, failed, left });
  if (errors.length > 0) throw summary(failed, errors);
  return { removed, left };
}

interface Category {
  readonly name: string;
  remove(): Promise<{ readonly count: number; readonly isLeft: boolean }>;
}

function categoriesOf(deps: CleanupDeps, now: number, run: JobRun): Category[] {
  const { exportCleaner, cleanupConfig } = deps;
  const rows = CLEANUP_ROWS.map((what) => ({
    name: what,
    remove: () => removeRows(deps, what, now, run),
  }));
  const before = now - cleanupConfig.retainDays.exports * DAY_MS;
  const bounded = async (limit: number, removing: Promise<number>) => {
    const count = await removing;
    return { count, isLeft: count >= limit };
  };
  const expired = () => exportCleaner.removeExpired({ before, limit: EXPORTS_MAX }, run);
  const old = { before: now - ORPHAN_AGE_MS, limit: ORPHANS_MAX };
  return [
    ...rows,
    { name: "exports", remove: () => bounded(EXPORTS_MAX, expired()) },
    {
      name: "orphan_blobs",
      remove: () => bounded(ORPHANS_MAX, exportCleaner.removeOrphans(old, run)),
    },
  ];
}

async function removeRows(
  { rowCleaner, cleanupConfig }: CleanupDeps,
  what: CleanupRows,
  now: number,
  run: JobRun,
): Promise<{ count: number; isLeft: boolean }> {
  const { runId, fence, signal } = run;
  const before = now - cleanupConfig.retainDays[what] * DAY_MS;
  const batch = { what, before, keep: cleanupConfig.runsKept, limit: BATCH_ROWS, runId, fence };
  let count = 0;
  for (let batches = 0; batches < BATCHES_MAX; batches += 1) {
    const deleted = await rowCleaner.deleteBatch(batch, signal);
    count += deleted;
    if (deleted < BATCH_ROWS) return { count, isLeft: false };
  }
  return { count, isLeft: true };
}

/** One failure that may pass makes the whole run worth another try. */
function summary(failed: Readonly<Record<string, string>>, errors: readonly unknown[]): AppError {
  const failures = errors.map(toFailure);
  const { kind, code } = failures.find((one) => one.kind === "transient") ?? {
    kind: failures[0]?.kind ?? "bug",
    code: failures[0]?.code ?? "unclassified",
  };
  const categories = Object.keys(failed).join(" ");
  return new AppError(kind, code, { details: { categories }, cause: errors[0] });
}
