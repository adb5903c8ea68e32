import { parse } from "csv-parse/sync";
import { permanent } from "../../kernel/errors.ts";
import { decodeTask } from "./read-plain.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";

const SEPARATORS = [";", "\t", ",", "|"] as const;
/** Enough to see which separator is one. */
const SAMPLE_LINES = 20;
const SAMPLE_CODE_UNITS = 64_000;
const ROWS_PER_MESSAGE = 500;

/** One table, its first row as header. Rows may have more or fewer cells than the header. */
export function readCsv(task: ReadTask): ReadFacts {
  const { text, charset } = decodeTask(task);
  const { limits, out } = task;
  if (text.length > limits.charactersMax + limits.cellsMax * 3)
    throw permanent("document_too_large", { limit: "characters", max: limits.charactersMax });
  const rows: string[][] = parse(text, {
    delimiter: separatorOf(text),
    bom: true,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: limits.charactersMax,
  });
  const [header, ...rest] = rows;
  if (header === undefined) return { meta: { charset } };
  out.block({ kind: "table", header, rows: [] });
  for (let at = 0; at < rest.length; at += ROWS_PER_MESSAGE)
    out.rows(rest.slice(at, at + ROWS_PER_MESSAGE));
  return { meta: { charset } };
}

/** The one that occurs most outside of quotes; `1.234,50` in a file with semicolons is no separator. */
export function separatorOf(text: string): string {
  const sample = text
    .slice(0, SAMPLE_CODE_UNITS)
    .replace(/"(?:[^"]|"")*"/g, "")
    .split(/\r\n?|\n/)
    .filter((line) => line.trim() !== "")
    .slice(0, SAMPLE_LINES);
  const counts = SEPARATORS.map((separator) => ({ separator, ...scoreOf(sample, separator) }));
  const best = counts.toSorted((one, other) => other.lines - one.lines || other.all - one.all)[0];
  return best === undefined || best.all === 0 ? "," : best.separator;
}

/** In how many lines it stands, and how often in all. */
function scoreOf(sample: readonly string[], separator: string): { lines: number; all: number } {
  const perLine = sample.map((line) => line.split(separator).length - 1);
  return {
    lines: perLine.filter((count) => count > 0).length,
    all: perLine.reduce((sum, count) => sum + count, 0),
  };
}
