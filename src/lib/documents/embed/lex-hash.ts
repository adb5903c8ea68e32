import { abortError } from "../../kernel/deadline.ts";
import type { Embedder } from "../embedder.ts";
import { STOP_WORDS } from "./stop-words.ts";

export const LEX_HASH_ID = "lex-hash-v1";
export const LEX_HASH_DIMENSIONS = 1536;

/** Separates the hash that gives the sign from the one that gives the place. */
const SIGN_SEED = 0x51ed27;
const STEM_UNITS = 5;
/** The word and its beginning. */
const WHOLE_FEATURES = 2;
const GRAM_UNITS = 4;
const GRAM_WEIGHT = 0.25;

/** Words whose features are kept: most of a text are words that came before. About 40 MB when full. */
const WORDS_KEPT_MAX = 20_000;
const FEATURES_KEPT_MAX = 200_000;
/** A longer run of letters is no word that comes again. */
const WORD_KEPT_UNITS_MAX = 40;
/** Texts between two looks at the signal. */
const TEXTS_PER_LOOK = 256;

/**
 * The embedder that needs no network and no weights: words, word beginnings and groups of four letters, hashed into
 * 1536 places. It is lexical: it stands misspellings and inflections, and knows neither synonyms nor translations.
 *
 * The definition never changes under this id; docs/reference/embedders.md has it with golden values.
 */
export function createLexHash(): Embedder {
  const embedOne = createLexHasher();
  return {
    id: LEX_HASH_ID,
    dimensions: LEX_HASH_DIMENSIONS,
    isSemantic: false,
    embed: async (texts, signal) => {
      const vectors: (Float32Array | null)[] = [];
      for (const [index, text] of texts.entries()) {
        if (index % TEXTS_PER_LOOK === 0 && signal.aborted) throw abortError(signal);
        vectors.push(embedOne(text));
      }
      return vectors;
    },
  };
}

/** The vector of one text, of length 1; null when the text has nothing but stop words and signs. */
export function createLexHasher(): (text: string) => Float32Array | null {
  const memory = createFeatureMemory();
  const words = new Map<string, Features>();
  const featuresOf = (word: string): Features => {
    const known = words.get(word);
    if (known !== undefined) return known;
    const made = featureIds(fold(word), memory.idOf);
    if (word.length <= WORD_KEPT_UNITS_MAX) words.set(word, made);
    return made;
  };
  return (text) => {
    if (words.size > WORDS_KEPT_MAX || memory.size() > FEATURES_KEPT_MAX) {
      words.clear();
      memory.clear();
    }
    for (const word of rawWords(text)) memory.count(featuresOf(word));
    return toVector(memory.takeSums());
  };
}

/** Ids of features; the first two of a word weigh 1, the others `GRAM_WEIGHT`. */
type Features = readonly number[];

/** A feature has a place and a sign in the vector, and a sum while a text is counted. All by id, in flat lists. */
function createFeatureMemory() {
  const ids = new Map<string, number>();
  let places: number[] = [];
  let signs: number[] = [];
  let sums: number[] = [];
  let counted: number[] = [];
  const idOf = (name: string): number => {
    const known = ids.get(name);
    if (known !== undefined) return known;
    const id = ids.size;
    ids.set(name, id);
    places.push(h32(name, 0) % LEX_HASH_DIMENSIONS);
    signs.push((h32(name, SIGN_SEED) & 1) === 1 ? 1 : -1);
    sums.push(0);
    return id;
  };
  const count = (features: Features): void => {
    for (let at = 0; at < features.length; at += 1) {
      const id = features[at] ?? 0;
      const sum = sums[id] ?? 0;
      if (sum === 0) counted.push(id);
      sums[id] = sum + (at < WHOLE_FEATURES ? 1 : GRAM_WEIGHT);
    }
  };
  /** In the order of their first occurrence, so that a text has the same vector whatever came before it. */
  const takeSums = (): Float64Array => {
    const values = new Float64Array(LEX_HASH_DIMENSIONS);
    for (const id of counted) {
      const place = places[id] ?? 0;
      values[place] = (values[place] ?? 0) + (signs[id] ?? 0) * Math.sqrt(sums[id] ?? 0);
      sums[id] = 0;
    }
    counted = [];
    return values;
  };
  const clear = (): void => {
    ids.clear();
    [places, signs, sums] = [[], [], []];
  };
  return { idOf, count, takeSums, clear, size: () => ids.size };
}

/** "Año" becomes "ano". */
export const fold = (text: string): string =>
  text
    .normalize("NFD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase();

/**
 * The words before folding, so that only words that are new have to be folded; no letter or digit folds to anything
 * but letters, digits or nothing, and nothing else folds to one. A capital sigma becomes another letter
 * at the end of a word, which its surroundings decide: a text that has one is folded as a whole.
 */
const rawWords = (text: string): readonly string[] =>
  (text.includes("Σ") ? fold(text) : text).match(/[\p{L}\p{N}\p{M}]+/gu) ?? [];

/** The word, its beginning, and every group of four letters between its ends. */
function featureIds(word: string, idOf: (name: string) => number): Features {
  if (word === "" || STOP_WORDS.has(word)) return [];
  const ids = [idOf(`w:${word}`), idOf(`s:${word.slice(0, STEM_UNITS)}`)];
  const bounded = `^${word}$`;
  for (let at = 0; at + GRAM_UNITS <= bounded.length; at += 1)
    ids.push(idOf(`c:${bounded.slice(at, at + GRAM_UNITS)}`));
  return ids;
}

function toVector(values: Float64Array): Float32Array | null {
  let square = 0;
  for (let place = 0; place < values.length; place += 1) square += (values[place] ?? 0) ** 2;
  if (square === 0) return null;
  const length = Math.sqrt(square);
  const vector = new Float32Array(values.length);
  for (let place = 0; place < values.length; place += 1)
    vector[place] = (values[place] ?? 0) / length;
  return vector;
}

/** FNV-1a over UTF-16 code units, then the last mixing of murmur3. */
export function h32(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let at = 0; at < text.length; at += 1)
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
