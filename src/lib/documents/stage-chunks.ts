import { invariant } from "../kernel/errors.ts";
import type { Warning } from "./block.ts";
import type { Chunk } from "./chunk.ts";
import {
  type DocumentWork,
  type Hold,
  type Holder,
  STAGE_ROWS_MAX,
  type StagedChunk,
} from "./document-claim.ts";
import type { DocumentRun } from "./document-run.ts";
import type { Embedder } from "./embedder.ts";

export interface StageDeps {
  readonly documentWork: DocumentWork;
  readonly embedder: Embedder;
}

export interface Staged {
  readonly hold: Hold;
  readonly embedded: number;
  /** Chunks whose text had a vector already, also from an attempt that died. */
  readonly copied: number;
  readonly warnings: readonly Warning[];
}

/** Embeds what has no vector yet and stages everything, batch by batch. Ends early when the document is taken. */
export async function stageChunks(
  { documentWork, embedder }: StageDeps,
  holder: Holder,
  chunks: readonly Chunk[],
  run: DocumentRun,
): Promise<Staged> {
  const known = await documentWork.known(holder, embedder.id, run.signal);
  const counts = { embedded: 0, copied: 0, refused: 0 };
  for (let from = 0; from < chunks.length; from += STAGE_ROWS_MAX) {
    const part = chunks.slice(from, from + STAGE_ROWS_MAX);
    const staged = await embedPart(embedder, part, known, run.signal);
    const done = from + part.length;
    const batch = { model: embedder.id, chunks: staged, done, total: chunks.length };
    const hold = await documentWork.stage(holder, batch, run.signal);
    if (hold !== "ok") return { hold, ...counts, warnings: [] };
    count(counts, staged);
    run.progress({ stage: "store", chunksDone: done, chunksTotal: chunks.length });
  }
  return { hold: "ok", ...counts, warnings: warningsOf(embedder, counts.refused) };
}

async function embedPart(
  embedder: Embedder,
  part: readonly Chunk[],
  known: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<StagedChunk[]> {
  const fresh = part.filter(({ sha256 }) => !known.has(sha256));
  const texts = fresh.map(({ embedText }) => embedText);
  const vectors = texts.length === 0 ? [] : await embedder.embed(texts, signal);
  invariant(vectors.length === texts.length, "an embedder answers every text");
  const vectorOf = new Map(fresh.map((chunk, i) => [chunk.ordinal, vectors[i] ?? null]));
  return part.map(({ embedText: _, ...chunk }) => {
    const vector = vectorOf.get(chunk.ordinal) ?? null;
    invariant(
      vector === null || vector.length === embedder.dimensions,
      "a vector has the dimensions of its model",
    );
    return { ...chunk, vector, copy: known.has(chunk.sha256) };
  });
}

function count(
  counts: { embedded: number; copied: number; refused: number },
  staged: readonly StagedChunk[],
): void {
  for (const { vector, copy } of staged) {
    if (copy) counts.copied += 1;
    else if (vector === null) counts.refused += 1;
    else counts.embedded += 1;
  }
}

/** A lexical embedder has no vector for stop words; a semantic one refuses a text for a reason. */
const warningsOf = ({ isSemantic }: Embedder, refused: number): Warning[] =>
  isSemantic && refused > 0 ? [{ code: "chunks_without_vector", detail: String(refused) }] : [];
