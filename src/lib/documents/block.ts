/**
 * A document as every reader leaves it: blocks in reading order. Texts have no NUL and no lone surrogates, single spaces
 * inside of lines, `\n` as line end.
 */
export type Block = HeadingBlock | ParagraphBlock | TableBlock | SectionBlock;

interface OnPage {
  /** From 1; absent where the format has no pages. */
  readonly page?: number;
}

export interface HeadingBlock extends OnPage {
  readonly kind: "heading";
  readonly level: 1 | 2 | 3 | 4 | 5 | 6;
  readonly text: string;
}

/** Also an item of a list, a line of a text, a message of a thread. */
export interface ParagraphBlock extends OnPage {
  readonly kind: "paragraph";
  readonly text: string;
}

export interface TableBlock extends OnPage {
  readonly kind: "table";
  /** Repeated at the head of every part when the table is divided. */
  readonly header?: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** What follows belongs to this sheet, slide or attachment until the next one; chunks never cross it. */
export interface SectionBlock extends OnPage {
  readonly kind: "section";
  readonly sort: "sheet" | "slide" | "attachment";
  readonly title: string;
  readonly isHidden?: boolean;
}

/** Something the reader of the document should know; `detail` is short and holds no text of it. */
export interface Warning {
  readonly code: string;
  readonly detail?: string;
  readonly page?: number;
}
