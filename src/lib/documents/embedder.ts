/** Turns texts into vectors. Vectors of two models are never compared, so its id is stored with each of them. */
export interface Embedder {
  /** Name and version, such as `lex-hash-v1`. */
  readonly id: string;
  readonly dimensions: number;
  /** Whether words that mean the same come out close; decides how search weighs the vectors. */
  readonly isSemantic: boolean;
  /**
   * One answer per text, in order, of length 1 (Euclidean); null for a text without a vector: nothing but stop words,
   * or refused by the provider, which is then a warning of the document.
   *
   * Errors: `embedder_unavailable` (transient) · `embedder_refused` (permanent; the configuration, not the text).
   */
  embed(texts: readonly string[], signal: AbortSignal): Promise<readonly (Float32Array | null)[]>;
}
