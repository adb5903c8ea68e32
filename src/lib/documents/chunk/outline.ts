import type { Block, HeadingBlock, ParagraphBlock, TableBlock } from "../block.ts";
import { cutTokens } from "./tokens.ts";

/** Stands between two blocks of the cleaned text. */
const BETWEEN_BLOCKS = "\n";
/** Headings of these levels are borders that no chunk crosses. */
const BORDER_LEVEL_MAX = 2;
/** Of one heading in a path: more is text that was formatted as a heading. */
const HEADING_TOKENS_MAX = 60;

export type TextBlock = HeadingBlock | ParagraphBlock | TableBlock;

/** A block at its place. */
export interface Placed {
  readonly block: TextBlock;
  readonly text: string;
  /** Begin in the text of its region, in UTF-16 code units. */
  readonly at: number;
  /** Headings above it, outermost first, its own included when it is one. */
  readonly path: readonly string[];
}

/** Blocks below one heading. */
export type Section = readonly Placed[];

/** What lies between two borders: sheets, slides, attachments, headings of level 1 and 2. */
export interface Region {
  readonly text: string;
  /** Begin in the cleaned text of the document. */
  readonly offset: number;
  readonly sections: readonly Section[];
}

/** The text that the places of chunks refer to: the blocks in order, one below the other. */
export const cleanedText = (blocks: Iterable<Block>): string =>
  [...blocks].filter(hasText).map(textOf).join(BETWEEN_BLOCKS);

/** Cells stand apart by tabs, rows by line ends; white space inside of cells is one space. */
export function textOf(block: TextBlock): string {
  if (block.kind !== "table") return block.text;
  return rowsOf(block).map(rowText).join("\n");
}

/** With the header as first row, without rows that are empty. */
export const rowsOf = ({ header, rows }: TableBlock): readonly (readonly string[])[] =>
  (header === undefined ? rows : [header, ...rows]).filter((row) =>
    row.some((cell) => cell.trim() !== ""),
  );

export const rowText = (row: readonly string[]): string => row.map(cellText).join("\t");

export const cellText = (cell: string): string => cell.replace(/\s+/g, " ").trim();

function hasText(block: Block): block is TextBlock {
  if (block.kind === "section") return false;
  return block.kind === "table" ? rowsOf(block).length > 0 : /\S/.test(block.text);
}

/** Divides a document at its borders, one region after the other. Together their texts are the cleaned text. */
export function* regionsOf(blocks: Iterable<Block>): Generator<Region> {
  const headings: { level: number; text: string }[] = [];
  let region = startRegion(0);
  for (const block of blocks) {
    if (block.kind === "heading" && hasText(block)) enter(headings, block.level, block.text);
    if (block.kind === "section") {
      headings.length = 0;
      if (block.title.trim() !== "") enter(headings, 0, block.title);
    }
    if (isBorder(block) && !region.isOnlyHeadingsAbove(block)) {
      yield* region.close();
      region = startRegion(region.end());
    }
    const path = headings.map(({ text }) => text);
    if (hasText(block)) region.add(block, path);
  }
  yield* region.close();
}

function enter(headings: { level: number; text: string }[], level: number, text: string): void {
  while ((headings.at(-1)?.level ?? -1) >= level) headings.pop();
  headings.push({ level, text: cutTokens(cellText(text), HEADING_TOKENS_MAX) });
}

const isBorder = (block: Block): boolean =>
  block.kind === "section" || (block.kind === "heading" && block.level <= BORDER_LEVEL_MAX);

/** `before` is the end of the region before it; 0 when there is none. */
function startRegion(before: number) {
  const offset = before === 0 ? 0 : before + BETWEEN_BLOCKS.length;
  const sections: Placed[][] = [];
  const texts: string[] = [];
  let length = 0;
  /** A heading stays with the deeper one that follows at once: without text it is no section yet. */
  const isOnlyHeadingsAbove = (block: Block): boolean => {
    const last = sections.at(-1)?.at(-1)?.block;
    return block.kind === "heading" && last?.kind === "heading" && last.level < block.level;
  };
  const add = (block: TextBlock, path: readonly string[]): void => {
    if (sections.length === 0 || (block.kind === "heading" && !isOnlyHeadingsAbove(block)))
      sections.push([]);
    const text = textOf(block);
    const at = texts.length === 0 ? 0 : length + BETWEEN_BLOCKS.length;
    sections.at(-1)?.push({ block, text, at, path });
    texts.push(text);
    length = at + text.length;
  };
  const close = function* (): Generator<Region> {
    if (texts.length > 0) yield { text: texts.join(BETWEEN_BLOCKS), offset, sections };
  };
  const end = (): number => (texts.length === 0 ? before : offset + length);
  return { add, close, isOnlyHeadingsAbove, end };
}
