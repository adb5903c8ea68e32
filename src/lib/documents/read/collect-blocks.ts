import { permanent } from "../../kernel/errors.ts";
import type { Block, TableBlock } from "../block.ts";
import type { DocumentText, ReadLimits } from "./document-text.ts";
import { LineSchema } from "./read-protocol.ts";

export interface CollectedBlocks {
  /** The next piece of the stream of lines. @throws when a line has an unknown shape, or the limits are passed. */
  add(piece: string): void;
  finish(): Pick<DocumentText, "blocks" | "characters">;
}

/** JSON may write one code unit as six, and marks cells; a stream beyond that does not come from our reader. */
const STREAM_PER_CHARACTER = 6;
const STREAM_PER_CELL = 3;
const STREAM_SPARE = 20_000_000;

/** Puts the blocks of a document together again from the parts that the child sent. */
export function collectBlocks({ charactersMax, cellsMax }: ReadLimits): CollectedBlocks {
  const streamMax =
    charactersMax * STREAM_PER_CHARACTER + cellsMax * STREAM_PER_CELL + STREAM_SPARE;
  const blocks: (Exclude<Block, TableBlock> | OpenTable)[] = [];
  let unfinished: string[] = [];
  let streamed = 0;
  let characters = 0;

  const addLine = (line: string) => {
    const parsed = LineSchema.parse(JSON.parse(line));
    if ("block" in parsed) {
      blocks.push(parsed.block);
      characters += charactersOf(parsed.block);
    } else {
      const last = blocks.at(-1);
      if (last?.kind !== "table") throw new Error("rows without a table");
      for (const row of parsed.rows) last.rows.push(row);
      characters += cellsLength(parsed.rows);
    }
    if (characters > charactersMax)
      throw permanent("document_too_large", { limit: "characters", max: charactersMax });
  };

  return {
    add: (piece) => {
      streamed += piece.length;
      if (streamed > streamMax) throw new Error("the stream does not end");
      const [first = "", ...rest] = piece.split("\n");
      unfinished.push(first);
      for (const next of rest) {
        addLine(unfinished.join(""));
        unfinished = [next];
      }
    },
    finish: () => ({ blocks, characters }),
  };
}

type OpenTable = Omit<TableBlock, "rows"> & { readonly rows: (readonly string[])[] };

const cellsLength = (rows: readonly (readonly string[])[]): number =>
  rows.reduce((sum, row) => row.reduce((inRow, cell) => inRow + cell.length, sum), 0);

function charactersOf(block: Block): number {
  if (block.kind === "section") return 0;
  if (block.kind === "table") return cellsLength([block.header ?? [], ...block.rows]);
  return block.text.length;
}
