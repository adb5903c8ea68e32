import type { TableBlock } from "../block.ts";
import { cellText, type Placed, rowsOf, rowText } from "./outline.ts";
import { countTokens, cutTokens, splitWords } from "./tokens.ts";

/** What a chunk is packed from: a sentence, a row, or a part of one that is too long. Never divided again. */
export interface Piece {
  /** Half-open range in the text of the region. */
  readonly from: number;
  readonly to: number;
  readonly tokens: number;
  readonly page?: number;
  readonly path: readonly string[];
  readonly kind: "heading" | "sentence" | "row";
  /** Stands above the piece when a chunk begins with it: the header of its table. */
  readonly lead?: string;
  /** A part of a row, which its own part of the header explains. */
  readonly mustBegin?: true;
}

export interface PieceLimits {
  /** A longer piece is divided. */
  readonly target: number;
  /** Of a row with its header. */
  readonly max: number;
}

/** A header that is longer is cut where it is repeated. */
const LEAD_TOKENS_MAX = 128;

/** Sentence borders hardly depend on the language; this one knows those of Spanish and English. */
const SENTENCES = new Intl.Segmenter("es", { granularity: "sentence" });

export function piecesOf(placed: Placed, limits: PieceLimits): Piece[] {
  const { block, text, at, path } = placed;
  const base = { path, ...(block.page === undefined ? {} : { page: block.page }) };
  if (block.kind === "table") return tablePieces(block, at, base, limits);
  const kind = block.kind === "heading" ? ("heading" as const) : ("sentence" as const);
  return sentencePieces(text, at, { ...base, kind }, limits);
}

type Base = Pick<Piece, "path" | "page">;
type Pattern = Omit<Piece, "from" | "to" | "tokens">;

/** Sentences, or the words of sentences that are too long. Together they are the text. */
function sentencePieces(text: string, at: number, pattern: Pattern, limits: PieceLimits): Piece[] {
  const pieces: Piece[] = [];
  for (const { segment, index } of SENTENCES.segment(text)) {
    const tokens = countTokens(segment);
    const from = at + index;
    if (tokens <= limits.target)
      pieces.push({ ...pattern, from, to: from + segment.length, tokens });
    else for (const piece of wordPieces(segment, from, pattern, limits)) pieces.push(piece);
  }
  return pieces;
}

function* wordPieces(
  text: string,
  at: number,
  pattern: Pattern,
  limits: PieceLimits,
): Generator<Piece> {
  let from = at;
  for (const word of splitWords(text).flatMap((part) => halve(part, limits.target))) {
    yield { ...pattern, from, to: from + word.length, tokens: countTokens(word) };
    from += word.length;
  }
}

/** 256 characters of a rare script may have more tokens than a chunk. */
function halve(text: string, target: number): string[] {
  const characters = [...text];
  if (characters.length < 2 || countTokens(text) <= target) return [text];
  const middle = Math.ceil(characters.length / 2);
  return [characters.slice(0, middle), characters.slice(middle)].flatMap((half) =>
    halve(half.join(""), target),
  );
}

function tablePieces(table: TableBlock, at: number, base: Base, limits: PieceLimits): Piece[] {
  const pieces: Piece[] = [];
  const { header = [] } = table;
  const lead = cutTokens(rowText(header), LEAD_TOKENS_MAX).trimEnd();
  let from = at;
  for (const [index, row] of rowsOf(table).entries()) {
    const text = rowText(row);
    const isHeader = index === 0 && row === table.header;
    const above = isHeader || lead === "" ? {} : { lead };
    const tokens = countTokens(`${text}\n`);
    const fits = tokens + (isHeader ? 0 : countTokens(lead)) <= limits.max;
    if (fits) pieces.push({ ...base, ...above, kind: "row", from, to: from + text.length, tokens });
    else
      for (const piece of cellPieces(row, isHeader ? [] : header, from, base, limits))
        pieces.push(piece);
    from += text.length + 1;
  }
  return pieces;
}

/** Parts of a row between its cells, each with the header of these cells; a cell that is too long by its sentences. */
function* cellPieces(
  row: readonly string[],
  header: readonly string[],
  at: number,
  base: Base,
  limits: PieceLimits,
): Generator<Piece> {
  for (const { first, cells, from } of cellGroups(row, at, limits)) {
    const text = cells.join("\t");
    const titles = rowText(header.slice(first, first + cells.length)).trim();
    const lead = cutTokens(titles, LEAD_TOKENS_MAX).trimEnd();
    const begins = { mustBegin: true as const, ...(lead === "" ? {} : { lead }) };
    const tokens = countTokens(text);
    if (tokens <= limits.target)
      yield { ...base, ...begins, kind: "row", from, to: from + text.length, tokens };
    else
      yield* longCell(
        text,
        from,
        { ...base, kind: "row", ...(lead === "" ? {} : { lead }) },
        limits,
      );
  }
}

/** Only its first piece has to begin a chunk; where another one does, the header stands above it again. */
function longCell(text: string, from: number, pattern: Pattern, limits: PieceLimits): Piece[] {
  const [first, ...rest] = sentencePieces(text, from, pattern, limits);
  return first === undefined ? [] : [{ ...first, mustBegin: true }, ...rest];
}

interface CellGroup {
  readonly first: number;
  readonly cells: string[];
  readonly from: number;
}

function cellGroups(row: readonly string[], at: number, limits: PieceLimits): CellGroup[] {
  const groups: CellGroup[] = [];
  let [from, tokens] = [at, 0];
  for (const [index, cell] of row.map(cellText).entries()) {
    const more = countTokens(`${cell}\t`);
    const last = groups.at(-1);
    const joins = last !== undefined && tokens + more <= limits.target - LEAD_TOKENS_MAX;
    if (joins) last.cells.push(cell);
    else groups.push({ first: index, cells: [cell], from });
    tokens = joins ? tokens + more : more;
    from += cell.length + 1;
  }
  return groups.filter(({ cells }) => cells.some((cell) => cell !== ""));
}
