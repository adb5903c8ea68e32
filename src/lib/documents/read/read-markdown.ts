import type { Block, HeadingBlock } from "../block.ts";
import { decodeTask } from "./read-plain.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";

export function readMarkdown(task: ReadTask): ReadFacts {
  const { text, charset } = decodeTask(task);
  for (const block of markdownBlocks(text)) task.out.block(block);
  return { meta: { charset } };
}

const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const UNDERLINE = /^ {0,3}(=+|-{2,})[ \t]*$/;
const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** Headings, tables and paragraphs; everything else stays as it is written. */
export function* markdownBlocks(text: string): Generator<Block> {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let paragraph: string[] = [];
  const close = function* (): Generator<Block> {
    if (paragraph.length > 0) yield { kind: "paragraph", text: paragraph.join("\n") };
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const next = lines[at + 1] ?? "";
    const fence = FENCE.exec(line)?.[1];
    const heading = HEADING.exec(line);
    if (fence !== undefined) {
      const end = endOfFence(lines, at + 1, fence);
      paragraph.push(...sliceLines(lines, at, end));
      at = end;
    } else if (heading !== null) {
      yield* close();
      yield { kind: "heading", level: levelOf(heading[1] ?? ""), text: heading[2] ?? "" };
    } else if (UNDERLINE.test(line) && paragraph.length === 1) {
      const [title = ""] = paragraph;
      paragraph = [];
      yield { kind: "heading", level: line.includes("=") ? 1 : 2, text: title };
    } else if (
      line.includes("|") &&
      next.includes("-") &&
      next.includes("|") &&
      TABLE_RULE.test(next)
    ) {
      yield* close();
      const end = endOfTable(lines, at + 2);
      yield {
        kind: "table",
        header: cellsOf(line),
        rows: sliceLines(lines, at + 2, end - 1).map(cellsOf),
      };
      at = end - 1;
    } else if (line.trim() === "") yield* close();
    else paragraph.push(line);
  }
  yield* close();
}

const sliceLines = (lines: readonly string[], from: number, to: number): string[] =>
  lines.slice(from, to + 1);

const levelOf = (marks: string): HeadingBlock["level"] => {
  const level = Math.min(Math.max(marks.length, 1), 6);
  return level as HeadingBlock["level"]; // between 1 and 6, as the line above says
};

/** Index of the closing line, or of the last line. */
function endOfFence(lines: readonly string[], from: number, fence: string): number {
  const end = lines.findIndex((line, at) => at >= from && line.trimStart().startsWith(fence));
  return end < 0 ? lines.length - 1 : end;
}

/** Index of the first line that is no row. */
function endOfTable(lines: readonly string[], from: number): number {
  const end = lines.findIndex((line, at) => at >= from && !line.includes("|"));
  return end < 0 ? lines.length : end;
}

const cellsOf = (line: string): string[] =>
  line
    .trim()
    .replace(/^\||(?<!\\)\|$/g, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.replace(/\\\|/g, "|").trim());
