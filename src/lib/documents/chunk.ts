/** A part of a document that search finds by itself. */
export interface Chunk {
  /** From 0, without gaps. */
  readonly ordinal: number;
  /** At most 512 tokens of cl100k. */
  readonly content: string;
  readonly tokens: number;
  /** Headings above it, outermost first. */
  readonly headings: readonly string[];
  /** What is embedded: the headings, then the content. */
  readonly embedText: string;
  /** Of `embedText`, hex: an equal hash may keep its vector. */
  readonly sha256: string;
  readonly pageFrom?: number;
  readonly pageTo?: number;
  /** Half-open range in the cleaned text of the document, in UTF-16 code units. */
  readonly charFrom: number;
  readonly charTo: number;
  readonly language: "es" | "en" | "und";
  /** Attempts to instruct whoever reads the text: kept as data, never removed. */
  readonly injection: InjectionFlags;
}

export interface InjectionFlags {
  /** 0 (none) to 1. */
  readonly riskScore: number;
  /** Classes such as `instruction_override`, in a fixed order. */
  readonly flags: readonly string[];
  /** Ids of the patterns that matched. */
  readonly patterns: readonly string[];
}
