import { permanent } from "../../kernel/errors.ts";
import type { Block, Warning } from "../block.ts";
import { cleanLine, cleanText } from "./clean-text.ts";
import type { ReadLimits } from "./document-text.ts";

/** Where readers put what they find. Cleans, counts, and ends the reading at the limits. */
export interface Output {
  /** Empty texts are dropped. A table is open for `rows` until the next block. */
  block(block: Block): void;
  /** More rows of the table that came last. */
  rows(rows: readonly (readonly string[])[]): void;
  warn(warning: Warning): void;
  /** Whether anything but titles of sections came out. */
  readonly hasText: boolean;
  readonly characters: number;
  readonly warnings: readonly Warning[];
}

/** A flood of warnings says no more than some of them. */
const WARNINGS_MAX = 200;
const DETAIL_CODE_UNITS_MAX = 200;
const TITLE_CODE_UNITS_MAX = 500;

/** `write` gets the lines of the protocol, without line end. */
export function openOutput(limits: ReadLimits, write: (line: string) => void): Output {
  const warnings: Warning[] = [];
  let characters = 0;
  let cells = 0;

  const count = (text: string): string => {
    characters += text.length;
    if (characters > limits.charactersMax)
      throw permanent("document_too_large", { limit: "characters", max: limits.charactersMax });
    return text;
  };
  const cleanRow = (row: readonly string[]): string[] => {
    cells += row.length;
    if (cells > limits.cellsMax)
      throw permanent("document_too_large", { limit: "cells", max: limits.cellsMax });
    if (row.length > limits.columnsMax)
      throw permanent("document_too_large", { limit: "columns", max: limits.columnsMax });
    return row.map((cell) => count(cleanLine(cell)));
  };

  return {
    block: (block) => {
      const clean = cleanBlock(block, count, cleanRow);
      if (clean !== undefined) write(JSON.stringify({ block: clean }));
    },
    rows: (rows) => {
      if (rows.length > 0) write(JSON.stringify({ rows: rows.map(cleanRow) }));
    },
    warn: (warning) => {
      if (warnings.length < WARNINGS_MAX) warnings.push(cleanWarning(warning));
    },
    get hasText() {
      return characters > 0;
    },
    get characters() {
      return characters;
    },
    get warnings() {
      return warnings;
    },
  };
}

function cleanBlock(
  block: Block,
  count: (text: string) => string,
  cleanRow: (row: readonly string[]) => string[],
): Block | undefined {
  switch (block.kind) {
    case "section":
      return {
        ...block,
        title: cleanLine(block.title).slice(0, TITLE_CODE_UNITS_MAX).toWellFormed(),
      };
    case "table":
      return {
        ...block,
        ...(block.header === undefined ? {} : { header: cleanRow(block.header) }),
        rows: block.rows.map(cleanRow),
      };
    default: {
      const text = block.kind === "heading" ? cleanLine(block.text) : cleanText(block.text);
      return text === "" ? undefined : { ...block, text: count(text) };
    }
  }
}

const cleanWarning = ({ detail, ...warning }: Warning): Warning =>
  detail === undefined
    ? warning
    : { ...warning, detail: cleanLine(detail).slice(0, DETAIL_CODE_UNITS_MAX).toWellFormed() };
