import { createHash } from "node:crypto";
import { invariant, permanent } from "../../kernel/errors.ts";
import type { Block } from "../block.ts";
import type { Chunk } from "../chunk.ts";
import { flagInjection } from "./injection.ts";
import { languageOf } from "./language.ts";
import { regionsOf } from "./outline.ts";
import { type Packed, type PackLimits, packRegion } from "./pack.ts";
import { countTokens, cutTokens } from "./tokens.ts";

export const CHUNK_DEFAULTS: PackLimits = { target: 350, max: 512, overlap: 40 };
export const CHUNKS_MAX = 20_000;

/** Of the headings in front of a text that is embedded. */
const PATH_TOKENS_MAX = 60;
const PATH_JOINER = " > ";

/**
 * Divides a document into chunks of about `target` tokens, at most `max`. A chunk repeats up to `overlap` tokens of the
 * one before it within the same section, and the header of a table that goes on; without both, chunks and the white
 * space between them are the cleaned text (`cleanedText`). Depends on nothing but the blocks and the options.
 *
 * @throws AppError permanent `document_too_many_chunks` above 20,000.
 */
export const chunkBlocks = (
  blocks: Iterable<Block>,
  options: Partial<PackLimits> = {},
): Chunk[] => [...chunksOf(blocks, options)];

/** The same, one after the other: holds the text of one section at a time. */
export function* chunksOf(
  blocks: Iterable<Block>,
  options: Partial<PackLimits> = {},
): Generator<Chunk> {
  const limits = { ...CHUNK_DEFAULTS, ...options };
  assertLimits(limits);
  let ordinal = 0;
  for (const region of regionsOf(blocks)) {
    for (const packed of packRegion(region, limits)) {
      if (ordinal >= CHUNKS_MAX) throw permanent("document_too_many_chunks", { max: CHUNKS_MAX });
      yield toChunk(packed, region.offset, ordinal);
      ordinal += 1;
    }
  }
}

/** An overlap as long as the chunks themselves would never come to an end. */
function assertLimits({ target, max, overlap }: PackLimits): void {
  invariant(target >= 16 && target <= max, "a chunk has at least 16 tokens, and its target fits");
  invariant(overlap >= 0 && overlap < target / 2, "chunks overlap by less than half of their size");
}

function toChunk(packed: Packed, offset: number, ordinal: number): Chunk {
  const { content, tokens, headings, prefix, pages, from, to } = packed;
  const path = headingPath(prefix);
  const embedText = path === "" ? content : `${path}\n${content}`;
  return {
    ordinal,
    content,
    tokens,
    headings,
    embedText,
    sha256: createHash("sha256").update(embedText).digest("hex"),
    ...(pages === undefined ? {} : { pageFrom: pages.from, pageTo: pages.to }),
    charFrom: offset + from,
    charTo: offset + to,
    language: languageOf(content),
    injection: flagInjection(content),
  };
}

/** `Contrato > Duración`; the outermost headings go first when they are too long together. */
function headingPath(headings: readonly string[]): string {
  let path = headings.join(PATH_JOINER);
  for (let from = 1; from < headings.length && countTokens(path) > PATH_TOKENS_MAX; from += 1)
    path = headings.slice(from).join(PATH_JOINER);
  return cutTokens(path, PATH_TOKENS_MAX);
}
