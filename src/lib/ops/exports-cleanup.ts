import type { Run } from "../kernel/run.ts";
import type { Day } from "./exports-plan.ts";

/** The claim under which exports are forgotten. */
export interface CleanupClaim {
  readonly runId: string;
  readonly fence: number;
}

export interface ExpiredExports {
  expired(
    before: Day,
    limit: number,
    signal: AbortSignal,
  ): Promise<readonly { readonly week: Day; readonly paths: readonly string[] }[]>;
  /** Refused once somebody else has the run. */
  forget(week: Day, claim: CleanupClaim, signal: AbortSignal): Promise<void>;
  /** Those of the paths that belong to a file of an export. */
  knownPaths(paths: readonly string[], signal: AbortSignal): Promise<readonly string[]>;
}

/** Blobs as this needs them. */
export interface ExportBlobs {
  delete(path: string, signal: AbortSignal): Promise<boolean>;
  list(
    prefix: string,
    page: { readonly after?: string | undefined; readonly limit: number },
    signal: AbortSignal,
  ): Promise<{
    readonly blobs: readonly { readonly path: string; readonly modifiedAt: number }[];
    readonly next: string | undefined;
  }>;
}

export interface ExportCleanupDeps {
  readonly expiredExports: ExpiredExports;
  readonly exportBlobs: ExportBlobs;
}

interface Bound {
  readonly before: number;
  readonly limit: number;
}

const PREFIX = "exports/";
const PAGE = 1000;
const PAGES_MAX = 100;
const manifestOf = (week: Day): string => `${PREFIX}${week}/manifest.json`;

/** Blobs first, then the row: a crash in between leaves a row whose next removal finds nothing, and removes it. */
export async function removeExpiredExports(
  { expiredExports, exportBlobs }: ExportCleanupDeps,
  { before, limit }: Bound,
  run: Run & CleanupClaim,
): Promise<number> {
  const day = new Date(before).toISOString().slice(0, 10);
  const exports = await expiredExports.expired(day, limit, run.signal);
  for (const { week, paths } of exports) {
    // The manifest goes first: a reader of the storage then knows that the export is gone.
    for (const path of [manifestOf(week), ...paths]) await exportBlobs.delete(path, run.signal);
    await expiredExports.forget(week, run, run.signal);
  }
  return exports.length;
}

/** Files of attempts that broke off. A manifest is known by its week, a file by its row. */
export async function removeOrphanBlobs(
  { expiredExports, exportBlobs }: ExportCleanupDeps,
  { before, limit }: Bound,
  run: Run,
): Promise<number> {
  let removed = 0;
  let after: string | undefined;
  for (let page = 0; page < PAGES_MAX && removed < limit; page += 1) {
    const { blobs, next } = await exportBlobs.list(PREFIX, { after, limit: PAGE }, run.signal);
    const old = blobs
      .filter(({ path, modifiedAt }) => modifiedAt < before && !path.endsWith("/manifest.json"))
      .map(({ path }) => path);
    const known = new Set(old.length === 0 ? [] : await expiredExports.knownPaths(old, run.signal));
    for (const path of old.filter((candidate) => !known.has(candidate)).slice(0, limit - removed)) {
      await exportBlobs.delete(path, run.signal);
      removed += 1;
    }
    if (next === undefined) break;
    after = next;
  }
  return removed;
}
