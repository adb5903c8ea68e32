import type { Embedder } from "./embedder.ts";

export interface Question {
  readonly workspaceId: string;
  readonly text: string;
  /** Only in these; undefined: in all of the workspace. */
  readonly documentIds: readonly string[] | undefined;
  readonly limit: number;
}

export interface Hit {
  readonly documentId: string;
  readonly name: string;
  readonly ordinal: number;
  readonly headings: readonly string[];
  readonly pageFrom: number | null;
  readonly pageTo: number | null;
  readonly language: string;
  /** Where the words stand, between double asterisks. */
  readonly snippet: string;
  readonly content: string;
  readonly injection: { riskScore: number; flags: string[]; patterns: string[] };
  readonly score: number;
  /** Null where that leg did not find it. */
  readonly wordRank: number | null;
  readonly similarity: number | null;
}

export interface SearchWeights {
  readonly words: number;
  readonly vectors: number;
  /** Cosine below which a vector says nothing. */
  readonly floor: number;
}

export interface DocumentIndex {
  find(
    question: Question,
    vector: { readonly model: string; readonly embedding: Float32Array | null },
    weights: SearchWeights,
    signal: AbortSignal,
  ): Promise<readonly Hit[]>;
}

export interface SearchDeps {
  readonly documentIndex: DocumentIndex;
  readonly embedder: Embedder;
}

/** Below it lie most of the vectors of texts that have nothing to do with each other. */
const SIMILARITY_FLOOR = 0.08;

/** A lexical vector repeats what the words say already; a semantic one says something else. */
export const weightsOf = ({ isSemantic }: Pick<Embedder, "isSemantic">): SearchWeights => ({
  words: isSemantic ? 1 : 3,
  vectors: 1,
  floor: SIMILARITY_FLOOR,
});

/** Finds chunks of one workspace by words and by vectors, best first. A question of stop words finds nothing. */
export async function searchDocuments(
  { documentIndex, embedder }: SearchDeps,
  question: Question,
  signal: AbortSignal,
): Promise<readonly Hit[]> {
  const [embedding = null] = await embedder.embed([question.text], signal);
  const vector = { model: embedder.id, embedding };
  return documentIndex.find(question, vector, weightsOf(embedder), signal);
}
