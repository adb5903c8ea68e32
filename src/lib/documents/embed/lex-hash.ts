import { abortError } from "../../kernel/deadline.ts";
import type { Embedder } from "../embedder.ts";
import { STOP_WORDS } from "./stop-words.ts";

export const LEX_HASH_ID = "lex-hash-v1";
export const LEX_HASH_DIMENSIONS = 1536;

/** Separates the hash that gives the sign from the one that gives the place. */
const SIGN_SEED = 0x51ed27;
const STEM_UNITS = 5;
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

/** Something that is counted in a text, with its place and sign in the vector. */
interface Feature {
  readonly place: number;
  readonly sign: 1 | -1;
  /** Weight in the text that is counted now; 0 between texts. */
  sum: number;
}

interface WeightedFeature {
  readonly feature: Feature;
  readonly weight: number;
}

/** The vector of one text, of length 1; null when the text has nothing but stop words and signs. */
export function createLexHasher(): (text: string) => Float32Array | null {
  const features = new Map<string, Feature>();
  const words = new Map<string, readonly WeightedFeature[]>();
  const featureOf = (name: string): Feature => {
    const known = features.get(name);
    if (known !== undefined) return known;
    const made = createFeature(name);
    features.set(name, made);
    return made;
  };
  const featuresOf = (word: string): readonly WeightedFeature[] => {
    const known = words.get(word);
    if (known !== undefined) return known;
    const made = STOP_WORDS.has(word)
      ? []
      : featureNames(word).map(([name, weight]) => ({ feature: featureOf(name), weight }));
    if (word.length <= WORD_KEPT_UNITS_MAX) words.set(word, made);
    return made;
  };
  return (text) => {
    const counted = countFeatures(wordsOf(text), featuresOf);
    const vector = toVector(counted);
    for (const feature of counted) feature.sum = 0;
    if (words.size > WORDS_KEPT_MAX || features.size > FEATURES_KEPT_MAX) {
      words.clear();
      features.clear();
    }
    return vector;
  };
}

/** "Año" becomes "ano". */
export const fold = (text: string): string =>
  text
    .normalize("NFD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase();

const wordsOf = (text: string): readonly string[] => fold(text).match(/[\p{L}\p{N}]+/gu) ?? [];

/** The word, its beginning, and every group of four letters between its ends, with their weights. */
function featureNames(word: string): (readonly [name: string, weight: number])[] {
  const names: (readonly [string, number])[] = [
    [`w:${word}`, 1],
    [`s:${word.slice(0, STEM_UNITS)}`, 1],
  ];
  const bounded = `^${word}$`;
  for (let at = 0; at + GRAM_UNITS <= bounded.length; at += 1)
    names.push([`c:${bounded.slice(at, at + GRAM_UNITS)}`, GRAM_WEIGHT]);
  return names;
}

const createFeature = (name: string): Feature => ({
  place: h32(name, 0) % LEX_HASH_DIMENSIONS,
  sign: (h32(name, SIGN_SEED) & 1) === 1 ? 1 : -1,
  sum: 0,
});

/** In the order of their first occurrence, so that a text has the same sums whatever came before it. */
function countFeatures(
  words: readonly string[],
  featuresOf: (word: string) => readonly WeightedFeature[],
): readonly Feature[] {
  const counted: Feature[] = [];
  for (const word of words) {
    for (const { feature, weight } of featuresOf(word)) {
      if (feature.sum === 0) counted.push(feature);
      feature.sum += weight;
    }
  }
  return counted;
}

function toVector(counted: readonly Feature[]): Float32Array | null {
  const values = new Float64Array(LEX_HASH_DIMENSIONS);
  for (const { place, sign, sum } of counted)
    values[place] = (values[place] ?? 0) + sign * Math.sqrt(sum);
  let square = 0;
  for (const value of values) square += value * value;
  if (square === 0) return null;
  const length = Math.sqrt(square);
  return Float32Array.from(values.map((value) => value / length));
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
