import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abortError } from "../kernel/deadline.ts";
import { transient } from "../kernel/errors.ts";
import { letOthersRun } from "../kernel/let-others-run.ts";
import type { Block, Warning } from "./block.ts";
import type { Chunk } from "./chunk.ts";
import type { ClaimedDocument, DocumentWork, Hold, Holder, Stage } from "./document-claim.ts";
import type { DocumentResult, DocumentRun } from "./document-run.ts";
import type { Embedder } from "./embedder.ts";
import { pipelineKey } from "./pipeline-key.ts";
import { stageChunks } from "./stage-chunks.ts";
import { type FetchedObject, fetchObject, type StoredObjects } from "./stored-object.ts";

/** What came out of a file. */
export interface ReadText {
  readonly type: string;
  readonly blocks: readonly Block[];
  readonly warnings: readonly Warning[];
  readonly pages?: number;
}

/** Reads a file in a process of its own; ends with the signal. Errors: `document_…`. */
export type ReadFile = (
  file: { readonly path: string; readonly name: string; readonly declaredType?: string },
  signal: AbortSignal,
) => Promise<ReadText>;

/** Chunks may come one by one; what divides may be loaded only now. */
export type DivideBlocks = (blocks: readonly Block[]) => Iterable<Chunk> | Promise<Iterable<Chunk>>;

export interface IngestDeps {
  readonly documentWork: DocumentWork;
  readonly storedObjects: StoredObjects;
  readonly readFile: ReadFile;
  /** One after the other, so that the process can do something else in between. */
  readonly chunksOf: DivideBlocks;
  readonly embedder: Embedder;
  /** Of the code that reads and divides; a new one processes documents anew when they are asked for. */
  readonly pipelineVersions: { readonly reader: string; readonly chunker: string };
  readonly documentsConfig: { readonly bytesMax: number };
}

/** One attempt, from the stored object to the served version. Throws `document_taken` when a write was refused. */
export async function ingestDocument(
  deps: IngestDeps,
  claim: ClaimedDocument,
  holder: Holder,
  run: DocumentRun,
): Promise<DocumentResult> {
  const folder = await mkdtemp(join(tmpdir(), "document-"));
  try {
    const path = join(folder, "content");
    const file = { path, bytesMax: deps.documentsConfig.bytesMax };
    const fetched = await fetchObject(deps.storedObjects, claim, file, run.signal);
    const key = pipelineKey(deps.pipelineVersions, deps.embedder);
    if (isUnchanged(claim, fetched, key)) {
      refuseTaken(await deps.documentWork.keep(holder, run.signal));
      return { outcome: "unchanged", version: claim.version };
    }
    await enter(deps, holder, "read", run);
    const text = await deps.readFile(fileOf(claim, path), run.signal);
    return await store(deps, { claim, holder, fetched, key, text }, run);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const isUnchanged = (claim: ClaimedDocument, { sha256 }: FetchedObject, key: string): boolean =>
  claim.hasActive && !claim.isForced && claim.sha256 === sha256 && claim.pipelineKey === key;

const fileOf = ({ name, mime }: ClaimedDocument, path: string) => ({
  path,
  name,
  ...(mime === null ? {} : { declaredType: mime }),
});

interface Content {
  readonly claim: ClaimedDocument;
  readonly holder: Holder;
  readonly fetched: FetchedObject;
  readonly key: string;
  readonly text: ReadText;
}

async function store(
  deps: IngestDeps,
  { claim, holder, fetched, key, text }: Content,
  run: DocumentRun,
): Promise<DocumentResult> {
  await enter(deps, holder, "chunk", run);
  const chunks = await divide(await deps.chunksOf(text.blocks), run.signal);
  await enter(deps, holder, "embed", run);
  const staged = await stageChunks(deps, holder, chunks, run);
  refuseTaken(staged.hold);
  const warnings = [...text.warnings, ...staged.warnings];
  const facts = {
    ...fetched,
    pipelineKey: key,
    type: text.type,
    language: languageOf(chunks),
    pages: text.pages ?? null,
    warnings,
  };
  refuseTaken(await deps.documentWork.finish(holder, chunks.length, facts, run.signal));
  const counts = { chunks: chunks.length, embedded: staged.embedded, copied: staged.copied };
  run.note({ documentId: holder.documentId, type: text.type, ...counts });
  return { outcome: "ready", version: claim.version, ...counts, warnings: warnings.length };
}

/** Chunks between two pauses: some ten milliseconds of work. */
const CHUNKS_AT_ONCE = 16;

/** Long texts take seconds; the leases of everything else in this process are renewed meanwhile. */
async function divide(chunks: Iterable<Chunk>, signal: AbortSignal): Promise<Chunk[]> {
  const divided: Chunk[] = [];
  for (const chunk of chunks) {
    divided.push(chunk);
    if (divided.length % CHUNKS_AT_ONCE !== 0) continue;
    await letOthersRun();
    if (signal.aborted) throw abortError(signal);
  }
  return divided;
}

async function enter(
  deps: IngestDeps,
  holder: Holder,
  stage: Stage,
  run: DocumentRun,
): Promise<void> {
  refuseTaken(await deps.documentWork.touch(holder, stage, run.signal));
  run.progress({ stage });
}

function refuseTaken(hold: Hold): void {
  if (hold !== "ok") throw transient("document_taken", { hold });
}

/** The one that most of the text is written in. */
function languageOf(chunks: readonly Chunk[]): string {
  const tokens = new Map<string, number>();
  for (const chunk of chunks)
    tokens.set(chunk.language, (tokens.get(chunk.language) ?? 0) + chunk.tokens);
  const [first] = [...tokens].sort(([, a], [, b]) => b - a);
  return first?.[0] ?? "und";
}
