import type { Region, Section } from "./outline.ts";
import { type Piece, piecesOf } from "./pieces.ts";
import { countTokens, splitWords } from "./tokens.ts";

/** In tokens of cl100k. */
export interface PackLimits {
  /** A chunk takes pieces up to here. */
  readonly target: number;
  /** No chunk has more. */
  readonly max: number;
  /** What a chunk repeats of the one before it at the most. */
  readonly overlap: number;
}

/** A chunk to be; places are those in the text of the region. */
export interface Packed {
  readonly content: string;
  readonly tokens: number;
  readonly headings: readonly string[];
  /** Headings that the content does not begin with itself. */
  readonly prefix: readonly string[];
  readonly pages?: { readonly from: number; readonly to: number };
  readonly from: number;
  readonly to: number;
}

/** A smaller section, or rest of one, joins its neighbour. */
const SMALL_TOKENS = 50;
/** Some signs have so many characters in one token that tokens alone would not bound a chunk. */
const CHUNK_CHARACTERS_MAX = 8192;
/** No overlap begins further back. */
const OVERLAP_CHARACTERS_MAX = 400;

/** Packs each section by itself, small ones with their neighbour. */
export function* packRegion(region: Region, limits: PackLimits): Generator<Packed> {
  for (const pieces of joinSections(region.sections, limits))
    yield* packPieces(region.text, pieces, limits);
}

interface Weighed {
  readonly pieces: Piece[];
  readonly tokens: number;
}

function joinSections(sections: readonly Section[], limits: PackLimits): readonly Piece[][] {
  const joined: Weighed[] = [];
  for (const section of sections) {
    const pieces = section.flatMap((placed) => piecesOf(placed, limits));
    const next = { pieces, tokens: sumTokens(pieces) };
    const last = joined.at(-1);
    if (last !== undefined && isJoined(last, next, limits)) {
      joined[joined.length - 1] = {
        pieces: [...last.pieces, ...pieces],
        tokens: last.tokens + next.tokens,
      };
    } else joined.push(next);
  }
  return joined.map(({ pieces }) => pieces);
}

const isJoined = (last: Weighed, next: Weighed, { target }: PackLimits): boolean =>
  Math.min(last.tokens, next.tokens) < SMALL_TOKENS && last.tokens + next.tokens <= target;

const sumTokens = (pieces: readonly Piece[]): number =>
  pieces.reduce((sum, { tokens }) => sum + tokens, 0);

/** Each turn takes at least one piece, so it ends after as many turns as there are pieces at the most. */
function* packPieces(
  text: string,
  pieces: readonly Piece[],
  limits: PackLimits,
): Generator<Packed> {
  let left = sumTokens(pieces);
  for (let at = 0; at < pieces.length; ) {
    const begin = beginAt(text, pieces, at, limits);
    const count = takeCount(pieces, at, { begin, left, limits });
    const { packed, taken } = fitExactly(text, pieces.slice(at, at + count), begin, limits);
    left -= sumTokens(pieces.slice(at, at + taken));
    at += taken;
    if (packed !== undefined) yield packed;
  }
}

/** What a chunk begins with besides its pieces. */
interface Begin {
  readonly lead: string;
  /** Where the overlap begins; the begin of the first piece when there is none. */
  readonly from: number;
  readonly tokens: number;
}

function beginAt(text: string, pieces: readonly Piece[], at: number, limits: PackLimits): Begin {
  const [first, before] = [pieces[at], pieces[at - 1]];
  const start = first?.from ?? 0;
  if (first?.lead !== undefined)
    return { lead: `${first.lead}\n`, from: start, tokens: countTokens(`${first.lead}\n`) };
  const isProse = first?.kind === "sentence" && before !== undefined && before.kind !== "row";
  const from = isProse ? overlapFrom(text, pieces, at, limits.overlap) : start;
  return { lead: "", from, tokens: from === start ? 0 : countTokens(text.slice(from, start)) };
}

/** Whole sentences where they fit, else whole words. Pieces before `at` are of the same section. */
function overlapFrom(text: string, pieces: readonly Piece[], at: number, overlap: number): number {
  const end = pieces[at]?.from ?? 0;
  const floor = Math.max(pieces[0]?.from ?? 0, end - OVERLAP_CHARACTERS_MAX);
  let from = end;
  for (let index = at - 1; index >= 0; index -= 1) {
    const piece = pieces[index];
    if (piece === undefined || piece.kind === "row" || piece.from < floor) break;
    if (countTokens(text.slice(piece.from, end)) > overlap) break;
    from = piece.from;
  }
  return from < end ? from : wordsBack(text, floor, end, overlap);
}

function wordsBack(text: string, floor: number, end: number, overlap: number): number {
  let from = end;
  for (const word of splitWords(text.slice(floor, end)).slice(1).reverse()) {
    if (countTokens(text.slice(from - word.length, end)) > overlap) break;
    from -= word.length;
  }
  return from;
}

interface Room {
  readonly begin: Begin;
  /** Tokens of all pieces from here on. */
  readonly left: number;
  readonly limits: PackLimits;
}

/** Greedily up to the target; beyond it when the chunk would stay half empty, or the rest is small. */
function takeCount(pieces: readonly Piece[], at: number, { begin, left, limits }: Room): number {
  let tokens = begin.tokens;
  let rest = left;
  let count = 0;
  for (let index = at; index < pieces.length; index += 1) {
    const piece = pieces[index];
    if (piece === undefined || (count > 0 && !hasRoom(pieces, at, index, { tokens, rest, limits })))
      break;
    tokens += piece.tokens;
    rest -= piece.tokens;
    count += 1;
  }
  return count > 1 && endsWithHeader(pieces, at + count) ? count - 1 : count;
}

/** A header without a row belongs to the chunk of its first row. */
const endsWithHeader = (pieces: readonly Piece[], end: number): boolean =>
  pieces[end - 1]?.kind === "row" &&
  pieces[end - 1]?.lead === undefined &&
  pieces[end]?.lead !== undefined;

function hasRoom(
  pieces: readonly Piece[],
  at: number,
  index: number,
  { tokens, rest, limits }: { tokens: number; rest: number; limits: PackLimits },
): boolean {
  const [first, piece] = [pieces[at], pieces[index]];
  if (first === undefined || piece === undefined || piece.mustBegin) return false;
  if (piece.to - first.from > CHUNK_CHARACTERS_MAX) return false;
  const sum = tokens + piece.tokens;
  if (sum <= limits.target) return true;
  const isHalfEmpty = tokens < limits.target / 2;
  return (isHalfEmpty && sum <= limits.max) || (rest < SMALL_TOKENS && tokens + rest <= limits.max);
}

/** Tokens of a text are not exactly the sum of those of its pieces: what is too much goes to the next chunk. */
function fitExactly(
  text: string,
  pieces: readonly Piece[],
  begin: Begin,
  limits: PackLimits,
): { packed: Packed | undefined; taken: number } {
  for (let taken = pieces.length; taken > 1; taken -= 1) {
    const packed = toPacked(text, pieces.slice(0, taken), begin);
    if (packed === undefined || packed.tokens <= limits.max) return { packed, taken };
  }
  const alone = pieces.slice(0, 1);
  const bare = { lead: "", from: alone[0]?.from ?? 0, tokens: 0 };
  const packed = toPacked(text, alone, begin);
  const fits = packed === undefined || packed.tokens <= limits.max;
  return { packed: fits ? packed : toPacked(text, alone, bare), taken: 1 };
}

/** Undefined when there is nothing but white space. */
function toPacked(text: string, pieces: readonly Piece[], begin: Begin): Packed | undefined {
  const end = pieces.at(-1)?.to ?? begin.from;
  const range = text.slice(begin.from, end);
  const body = range.trim();
  if (body === "") return undefined;
  const from = begin.from + (range.length - range.trimStart().length);
  const content = `${begin.lead}${body}`;
  const pages = pagesOf(pieces);
  return {
    content,
    tokens: countTokens(content),
    ...headingsOf(pieces),
    ...(pages === undefined ? {} : { pages }),
    from,
    to: from + body.length,
  };
}

function pagesOf(pieces: readonly Piece[]): Packed["pages"] {
  const pages = pieces.flatMap(({ page }) => page ?? []);
  if (pages.length === 0) return undefined;
  return {
    from: pages.reduce((a, b) => Math.min(a, b)),
    to: pages.reduce((a, b) => Math.max(a, b)),
  };
}

/** Those above all of the text; a chunk of headings only has those above its last one. */
function headingsOf(pieces: readonly Piece[]): Pick<Packed, "headings" | "prefix"> {
  const bodies = pieces.filter(({ kind }) => kind !== "heading");
  const paths = (bodies.length > 0 ? bodies : pieces.slice(-1)).map(({ path }) => path);
  const headings = paths.reduce(commonBegin);
  const first = pieces[0];
  return { headings, prefix: first?.kind === "heading" ? first.path.slice(0, -1) : headings };
}

function commonBegin(a: readonly string[], b: readonly string[]): readonly string[] {
  if (a === b) return a;
  const end = a.findIndex((heading, at) => heading !== b[at]);
  return end === -1 ? a : a.slice(0, end);
}
