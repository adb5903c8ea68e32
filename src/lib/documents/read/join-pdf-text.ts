/** A piece of text as pdf.js hands it out, in units of the page. */
export interface PdfItem {
  readonly str: string;
  /** a, b, c, d, x, y: direction of writing (a, b), height (c, d), start of the baseline (x, y). */
  readonly transform: readonly number[];
  readonly width: number;
  readonly height: number;
  readonly hasEOL: boolean;
}

export interface PdfLine {
  readonly text: string;
  /** Of the font of its first piece; larger is more of a heading. */
  readonly height: number;
  /** From the baseline of the line before, in font heights; negative or absent: another column, or the first line. */
  readonly gap?: number;
}

/** Further across the baseline is another line. All in font heights. */
const NEXT_LINE = 0.5;
/** Further along is another cell; as far back is a cell that was drawn out of order. */
const NEXT_CELL = 1.5;
const BACK = -0.5;
const NEXT_WORD = 0.15;
const HEIGHT_WHEN_NONE = 10;

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Start extends Point {
  readonly height: number;
  readonly gap: number | undefined;
}

/**
 * Lines of one page. A PDF has no words: the distances between its pieces decide where spaces, tabs and line ends go.
 * Measured along the direction of writing, so that turned text works too. Right to left stays in the order drawn.
 */
export function joinPdfText(items: Iterable<PdfItem | object>): PdfLine[] {
  const lines: PdfLine[] = [];
  let text = "";
  let start: Start | undefined;
  let end: Point | undefined;
  let previous: Point | undefined;
  let isSpaced = false;

  const closeLine = () => {
    if (start !== undefined && text.trim() !== "") {
      const { height, gap } = start;
      lines.push({ text, height, ...(gap === undefined ? {} : { gap }) });
      previous = start;
    }
    text = "";
    start = undefined;
    isSpaced = false;
  };
  const add = (item: PdfItem) => {
    const { x, y, ux, uy, height } = place(item);
    if (end !== undefined) {
      const along = (x - end.x) * ux + (y - end.y) * uy;
      const across = (y - end.y) * ux - (x - end.x) * uy;
      if (Math.abs(across) > height * NEXT_LINE) closeLine();
      else text += separator(along / height, isSpaced, text, item.str);
    }
    const gap = previous && ((x - previous.x) * uy - (y - previous.y) * ux) / height;
    start ??= { x, y, height, gap };
    text += item.str;
    end = { x: x + item.width * ux, y: y + item.width * uy };
    isSpaced = false;
  };

  for (const item of items) {
    if (!isText(item)) continue; // marks without text
    // A space can be as wide as the gap between two cells, so that it does not count as what ends there.
    if (item.str.trim() !== "") add(item);
    else if (item.str !== "") isSpaced = true;
    if (!item.hasEOL) continue;
    closeLine();
    end = undefined;
  }
  closeLine();
  return lines;
}

const isText = (item: object): item is PdfItem => "str" in item;

interface Place extends Point {
  /** Direction of writing, of length 1. */
  readonly ux: number;
  readonly uy: number;
  readonly height: number;
}

function place({ transform, height }: PdfItem): Place {
  const [a = 0, b = 0, c = 0, d = 0, x = 0, y = 0] = transform;
  const length = Math.hypot(a, b) || 1;
  return {
    x,
    y,
    ux: a / length,
    uy: b / length,
    height: Math.hypot(c, d) || height || HEIGHT_WHEN_NONE,
  };
}

function separator(along: number, isSpaced: boolean, before: string, after: string): string {
  if (along > NEXT_CELL || along < BACK) return "\t";
  const hasSpace = /\s$/.test(before) || /^\s/.test(after);
  return (isSpaced || along > NEXT_WORD) && !hasSpace ? " " : "";
}
