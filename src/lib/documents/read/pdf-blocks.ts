import type { Block } from "../block.ts";
import type { PdfLine } from "./join-pdf-text.ts";

/** Body text is what most characters are set in; headings are larger. */
const HEADING_RATIO = 1.15;
const HEADING_CODE_UNITS_MAX = 200;
/** A document that is all headings has none. */
const HEADINGS_SHARE_MAX = 0.3;
const HEADING_LEVELS_MAX = 3;
/** More than the usual distance between lines begins a paragraph. */
const PARAGRAPH_RATIO = 1.3;
const GAP_WHEN_NONE = 1.2;

type Pages = readonly (readonly PdfLine[])[];

/** Paragraphs and headings, by the sizes of fonts and the distances between lines. Each page begins a new block. */
export function* pdfBlocks(pages: Pages): Generator<Block> {
  const levels = headingLevels(pages);
  const gapMax = usualGap(pages) * PARAGRAPH_RATIO;
  for (const [index, lines] of pages.entries()) {
    for (const group of groupLines(lines, levels, gapMax)) yield blockOf(group, levels, index + 1);
  }
}

const sizeKey = (height: number): number => Math.round(height * 2) / 2;

/** Size of font → level. */
function headingLevels(pages: Pages): ReadonlyMap<number, number> {
  const sizes = new Map<number, number>();
  let all = 0;
  for (const { text, height } of pages.flat()) {
    sizes.set(sizeKey(height), (sizes.get(sizeKey(height)) ?? 0) + text.length);
    all += text.length;
  }
  const [body = 0] = [...sizes].sort((one, other) => other[1] - one[1])[0] ?? [];
  const larger = [...sizes.keys()].filter((size) => size >= body * HEADING_RATIO);
  const inLarger = larger.reduce((sum, size) => sum + (sizes.get(size) ?? 0), 0);
  if (inLarger > all * HEADINGS_SHARE_MAX) return new Map();
  const ranked = larger.sort((one, other) => other - one);
  return new Map(ranked.map((size, rank) => [size, Math.min(rank + 1, HEADING_LEVELS_MAX)]));
}

/** The distance that most lines have. */
function usualGap(pages: Pages): number {
  const counts = new Map<number, number>();
  for (const { gap = 0 } of pages.flat()) {
    const rounded = Math.round(gap * 10) / 10;
    if (rounded > 0) counts.set(rounded, (counts.get(rounded) ?? 0) + 1);
  }
  const [usual = GAP_WHEN_NONE] =
    [...counts].sort((one, other) => other[1] - one[1] || one[0] - other[0])[0] ?? [];
  return usual;
}

function groupLines(
  lines: readonly PdfLine[],
  levels: ReadonlyMap<number, number>,
  gapMax: number,
): PdfLine[][] {
  const groups: PdfLine[][] = [];
  for (const line of lines) {
    const last = groups.at(-1)?.at(-1);
    const isSame = last !== undefined && belongs(last, line, levels, gapMax);
    if (isSame) groups.at(-1)?.push(line);
    else groups.push([line]);
  }
  return groups;
}

function belongs(
  last: PdfLine,
  line: PdfLine,
  levels: ReadonlyMap<number, number>,
  gapMax: number,
): boolean {
  const isNear = line.gap !== undefined && line.gap > 0 && line.gap <= gapMax;
  return isNear && levels.get(sizeKey(last.height)) === levels.get(sizeKey(line.height));
}

function blockOf(
  group: readonly PdfLine[],
  levels: ReadonlyMap<number, number>,
  page: number,
): Block {
  const text = rejoinWords(group.map((line) => line.text.trim()).join("\n"));
  const level = levels.get(sizeKey(group[0]?.height ?? 0));
  const isHeading =
    level !== undefined && text.length <= HEADING_CODE_UNITS_MAX && /\p{L}/u.test(text);
  return isHeading
    ? { kind: "heading", level: level === 1 ? 1 : level === 2 ? 2 : 3, text, page }
    : { kind: "paragraph", text, page };
}

/** Words that were divided at the end of a line. */
const rejoinWords = (text: string): string => text.replace(/(\p{L})-\n(\p{Ll})/gu, "$1$2");
