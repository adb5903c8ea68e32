import { pipeline, Readable } from "node:stream";
import { createGzip } from "node:zlib";
import type { Clock } from "../kernel/clock.ts";
import { invariant, permanent } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import { ENCODINGS, type ExportFormat, type Row } from "./export-format.ts";
import {
  type Day,
  type ExportSource,
  lastWeek,
  type PlannedFile,
  planFiles,
} from "./exports-plan.ts";

/** A file that is complete in the storage. Counts are decimal strings: they may exceed 2^53. */
export interface ExportFile {
  readonly name: string;
  readonly path: string;
  readonly rows: string;
  /** As stored, compressed. */
  readonly bytes: string;
  readonly contentBytes: string;
  /** Of the bytes as stored. */
  readonly sha256: string;
}

export interface OpenExport {
  readonly attempt: number;
  readonly format: ExportFormat;
  readonly ledgerAfter: string;
  readonly ledgerTo: string;
  readonly files: readonly ExportFile[];
}

export interface Manifest {
  readonly version: 1;
  readonly week: Day;
  readonly format: ExportFormat;
  readonly compression: "gzip";
  readonly rows: string;
  readonly files: readonly (ExportFile & { readonly columns: readonly string[] })[];
}

/** Which exports there are and how far each is, in Postgres. */
export interface ExportLedger {
  /** Begins or goes on; undefined when it is finished. Whoever worked on it before may not write any more. */
  open(week: Day, format: ExportFormat, signal: AbortSignal): Promise<OpenExport | undefined>;
  /** @returns false when somebody else went on with the export. */
  keepFile(week: Day, attempt: number, file: ExportFile, signal: AbortSignal): Promise<boolean>;
  /** @returns false when somebody else went on with the export. */
  finish(week: Day, attempt: number, manifest: Manifest, signal: AbortSignal): Promise<boolean>;
}

export interface ExportPage {
  readonly rows: readonly Row[];
  /** Where the following page begins; undefined = this was the last. */
  readonly next: unknown;
}

export interface ExportRows {
  columns(source: ExportSource): readonly string[];
  /** Rows behind `after`, in the order of their key: each once, however many are written meanwhile. */
  read(
    source: ExportSource,
    after: unknown,
    limit: number,
    signal: AbortSignal,
  ): Promise<ExportPage>;
}

/** Where files go. */
export interface ExportStore {
  put(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: { readonly contentType: string; readonly contentEncoding?: string | undefined },
    signal: AbortSignal,
  ): Promise<{ readonly bytes: number; readonly sha256: string }>;
}

export interface ExportDeps {
  readonly clock: Clock;
  readonly exportConfig: { readonly format: ExportFormat };
  readonly exportLedger: ExportLedger;
  readonly exportRows: ExportRows;
  readonly exportStore: ExportStore;
}

export interface ExportOptions {
  /** Its first day; the last week that is over when it is not given. */
  readonly week?: Day;
  readonly progress?: (fields: Readonly<Record<string, unknown>>) => void;
}

/** Rows in memory at a time. */
const PAGE_ROWS = 1000;
/** Of one file; a loop over pages ends even when they never do. */
const PAGES_MAX = 1_000_000;

/**
 * Exports a week that is over, or goes on where an earlier run ended. Files that are finished are kept, the one
 * that was being written is written again, and the manifest comes last: an export without one is not finished. Every
 * attempt writes under paths of its own, so a run that was thought dead can neither replace nor finish anything.
 *
 * Errors: permanent `export_taken_over` when another run went on with the export.
 */
export async function exportWeek(
  deps: ExportDeps,
  run: Run,
  { week = lastWeek(deps.clock.now()), progress = () => {} }: ExportOptions = {},
): Promise<Readonly<Record<string, unknown>>> {
  const open = await deps.exportLedger.open(week, deps.exportConfig.format, run.signal);
  if (open === undefined) return { week, outcome: "finished_before" };
  const planned = planFiles({ week, ledgerAfter: open.ledgerAfter, ledgerTo: open.ledgerTo });
  const files: ExportFile[] = [];
  for (const plan of planned) {
    const kept = open.files.find(({ name }) => name === plan.name);
    const file = kept ?? (await writeFile(deps, { week, open, plan }, run.signal));
    if (kept === undefined) await keep(deps, week, open.attempt, file, run.signal);
    files.push(file);
    progress({ week, files: files.length, of: planned.length });
  }
  const manifest = toManifest(deps, { week, open, planned, files });
  await putManifest(deps, manifest, run.signal);
  const isOurs = await deps.exportLedger.finish(week, open.attempt, manifest, run.signal);
  if (!isOurs) throw permanent("export_taken_over", { week });
  const { rows } = manifest;
  const resumed = open.files.length;
  return { week, outcome: "finished", files: files.length, resumed, rows, attempt: open.attempt };
}

interface Writing {
  readonly week: Day;
  readonly open: OpenExport;
  readonly plan: PlannedFile;
}

async function writeFile(
  { exportRows, exportStore }: ExportDeps,
  { week, open, plan }: Writing,
  signal: AbortSignal,
): Promise<ExportFile> {
  const { contentType, extension } = ENCODINGS[open.format];
  const path = `${folderOf(week)}${plan.name}.${open.attempt}.${extension}.gz`;
  const counts = { rows: 0, bytes: 0 };
  const lines = readLines(exportRows, plan.source, open.format, counts, signal);
  // A pipeline hands the error of one side to the other: a page that fails ends the upload, and the reverse.
  const content = pipeline(Readable.from(lines), createGzip(), () => {});
  const options = { contentType, contentEncoding: "gzip" };
  const { bytes, sha256 } = await exportStore.put(path, content, options, signal);
  const { name } = plan;
  const sizes = {
    rows: String(counts.rows),
    bytes: String(bytes),
    contentBytes: String(counts.bytes),
  };
  return { name, path, ...sizes, sha256 };
}

const folderOf = (week: Day): string => `exports/${week}/`;

async function* readLines(
  rows: ExportRows,
  source: ExportSource,
  format: ExportFormat,
  counts: { rows: number; bytes: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const columns = rows.columns(source);
  const encoding = ENCODINGS[format];
  const toBytes = (text: string): Buffer => {
    const bytes = Buffer.from(text);
    counts.bytes += bytes.length;
    return bytes;
  };
  yield toBytes(encoding.head(columns));
  let after: unknown;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const { rows: read, next } = await rows.read(source, after, PAGE_ROWS, signal);
    counts.rows += read.length;
    if (read.length > 0) yield toBytes(encoding.rows(columns, read));
    if (next === undefined) return;
    after = next;
  }
  invariant(false, "a file of an export has a bounded number of pages");
}

async function keep(
  { exportLedger }: ExportDeps,
  week: Day,
  attempt: number,
  file: ExportFile,
  signal: AbortSignal,
): Promise<void> {
  const isOurs = await exportLedger.keepFile(week, attempt, file, signal);
  if (!isOurs) throw permanent("export_taken_over", { week, file: file.name });
}

interface Finished {
  readonly week: Day;
  readonly open: OpenExport;
  readonly planned: readonly PlannedFile[];
  readonly files: readonly ExportFile[];
}

function toManifest(
  { exportRows }: ExportDeps,
  { week, open, planned, files }: Finished,
): Manifest {
  const columns = new Map(planned.map(({ name, source }) => [name, exportRows.columns(source)]));
  return {
    version: 1,
    week,
    format: open.format,
    compression: "gzip",
    rows: String(files.reduce((sum, { rows }) => sum + BigInt(rows), 0n)),
    files: files.map((file) => ({ ...file, columns: columns.get(file.name) ?? [] })),
  };
}

/** The commit point for whoever reads the storage alone. */
async function putManifest(
  { exportStore }: ExportDeps,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<void> {
  const content = Readable.from([Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`)]);
  const path = `${folderOf(manifest.week)}manifest.json`;
  await exportStore.put(path, content, { contentType: "application/json" }, signal);
}
