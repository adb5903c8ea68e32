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

interface Baseline {
  readonly x: number;
  readonly y: number;
}

/**
 * Lines of one page. A PDF has no words: the distances between its pieces decide where spaces, tabs and line ends go.
 * Measured along the direction of writing, so that turned text works too. Right to left stays in the order drawn.
 */
export function joinPdfText(items: Iterable<PdfItem | object>): PdfLine[] {
  const lines: PdfLine[] = [];
  let text = "";
  let start: (Baseline & { height: number; gap: number | undefined }) | undefined;
  let end: Baseline | undefined;
  let previous: Baseline | undefined;

  const closeLine = () => {
    if (start !== undefined && text.trim() !== "") {
      const { height, gap } = start;
      lines.push({ text, height, ...(gap === undefined ? {} : { gap }) });
      previous = start;
    }
    text = "";
    start = undefined;
  };

  for (const item of items) {
    if (!isText(item)) continue; // marks without text
    const [a = 0, b = 0, c = 0, d = 0, x = 0, y = 0] = item.transform;
    const height = Math.hypot(c, d) || item.height || HEIGHT_WHEN_NONE;
    const length = Math.hypot(a, b) || 1;
    const [ux, uy] = [a / length, b / length];
    if (item.str !== "") {
      if (end !== undefined) {
        const along = (x - end.x) * ux + (y - end.y) * uy;
        const across = (y - end.y) * ux - (x - end.x) * uy;
        if (Math.abs(across) > height * NEXT_LINE) closeLine();
        else text += separator(along / height, text, item.str);
      }
      start ??= {
        x,
        y,
        height,
        gap: previous && (-(y - previous.y) * ux + (x - previous.x) * uy) / height,
      };
      text += item.str;
      end = { x: x + item.width * ux, y: y + item.width * uy };
    }
    if (item.hasEOL) {
      closeLine();
      end = undefined;
    }
  }
  closeLine();
  return lines;
}

const isText = (item: object): item is PdfItem => "str" in item;

function separator(along: number, before: string, after: string): string {
  if (along > NEXT_CELL || along < BACK) return "\t";
  const hasSpace = /\s$/.test(before) || /^\s/.test(after);
  return along > NEXT_WORD && !hasSpace ? " " : "";
}
