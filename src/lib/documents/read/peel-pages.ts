import type { PdfLine } from "./join-pdf-text.ts";

/** At each end of a page. */
const PEELED_LINES_MAX = 3;
/** Fewer pages say nothing about what repeats. */
const PAGES_MIN = 4;
const REPEATED_RATIO = 0.6;
/** A form that is the same on every page is content: nothing is peeled when less than this would stay. */
const KEPT_RATIO_MIN = 0.7;
const PAGE_NUMBER = /^\W*(p[aá]g(ina|e|\.)?\s*)?\d+(\s*(de|of|\/)\s*\d+)?\W*$/iu;

/** Takes running headers, footers and page numbers off. */
export function peelPages(pages: readonly (readonly PdfLine[])[]): (readonly PdfLine[])[] {
  if (pages.length < PAGES_MIN) return [...pages];
  const seen = countEdges(pages);
  const isRunning = ({ text }: PdfLine): boolean =>
    PAGE_NUMBER.test(text) || (seen.get(text) ?? 0) > pages.length * REPEATED_RATIO;
  const peeled = pages.map((lines) => peel(lines, isRunning));
  return sizeOf(peeled) >= sizeOf(pages) * KEPT_RATIO_MIN ? peeled : [...pages];
}

/** On how many pages each line stands near an end. */
function countEdges(pages: readonly (readonly PdfLine[])[]): Map<string, number> {
  const seen = new Map<string, number>();
  for (const lines of pages) {
    const edges = [...lines.slice(0, PEELED_LINES_MAX), ...lines.slice(-PEELED_LINES_MAX)];
    for (const text of new Set(edges.map((line) => line.text)))
      seen.set(text, (seen.get(text) ?? 0) + 1);
  }
  return seen;
}

function peel(
  lines: readonly PdfLine[],
  isRunning: (line: PdfLine) => boolean,
): readonly PdfLine[] {
  const isRunningAt = (at: number): boolean => {
    const line = lines[at];
    return line !== undefined && isRunning(line);
  };
  let from = 0;
  let to = lines.length;
  while (from < PEELED_LINES_MAX && isRunningAt(from)) from++;
  while (lines.length - to < PEELED_LINES_MAX && to > from && isRunningAt(to - 1)) to--;
  return lines.slice(from, to);
}

const sizeOf = (pages: readonly (readonly PdfLine[])[]): number =>
  pages.reduce((sum, lines) => lines.reduce((inPage, { text }) => inPage + text.length, sum), 0);
