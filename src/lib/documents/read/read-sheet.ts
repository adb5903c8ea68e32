import { permanent } from "../../kernel/errors.ts";
import { parseXmlPart } from "./parse-xml-part.ts";
import type { Workbook } from "./read-xlsx.ts";
import type { ReadTask } from "./reader.ts";
import { serialToText } from "./xlsx-dates.ts";
import type { ZipEntry } from "./zip-archive.ts";

const ROWS_PER_MESSAGE = 500;

/** The cells of one sheet, as one table. Rows and cells without a value are left out; gaps inside a row stay. */
export function readSheet(
  { bytes, allowance, limits, out }: ReadTask,
  entry: ZipEntry,
  workbook: Workbook,
): void {
  let isOpen = false;
  let waiting: string[][] = [];
  const flush = () => {
    out.rows(waiting);
    waiting = [];
  };
  const addRow = (row: string[]) => {
    if (!isOpen) out.block({ kind: "table", header: row, rows: [] });
    else if (waiting.push(row) >= ROWS_PER_MESSAGE) flush();
    isOpen = true;
  };

  let row: string[] = [];
  let column = 0;
  let type = "n";
  let style = 0;
  let value = "";
  let isValue = false;
  let phonetic = 0;
  parseXmlPart(bytes, entry, allowance, {
    open: (name, attributes) => {
      if (name === "c") {
        type = attributes["t"] ?? "n";
        style = Number(attributes["s"] ?? 0);
        column = columnOf(attributes["r"] ?? "") || column + 1;
        value = "";
      } else if (name === "v" || name === "t") isValue = phonetic === 0;
      else if (name === "row") {
        row = [];
        column = 0;
      } else if (name === "rPh") phonetic++;
    },
    text: (piece) => {
      if (isValue) value += piece;
    },
    close: (name) => {
      if (name === "v" || name === "t") isValue = false;
      else if (name === "c") {
        if (value === "") return;
        if (column > limits.columnsMax)
          throw permanent("document_too_large", { limit: "columns", max: limits.columnsMax });
        while (row.length < column - 1) row.push("");
        row[column - 1] = cellText(value, type, style, workbook);
      } else if (name === "row") {
        if (row.length > 0) addRow(row);
      } else if (name === "rPh") phonetic--;
    },
  });
  flush();
}

function cellText(value: string, type: string, style: number, workbook: Workbook): string {
  if (type === "s") return workbook.strings[Number(value)] ?? "";
  if (type === "b") return value === "1" ? "TRUE" : "FALSE";
  if (type !== "n") return value; // text, result of a formula, name of an error, date in ISO form
  return workbook.dateStyles[style] === true
    ? serialToText(Number(value), workbook.is1904)
    : numberText(value);
}

/** Spreadsheets calculate and show 15 digits; what comes after is the noise of binary fractions. */
const DIGITS = 15;

function numberText(value: string): string {
  if (value.length <= DIGITS) return value;
  const number = Number(value);
  return Number.isFinite(number) ? String(Number(number.toPrecision(DIGITS))) : value;
}

const LETTER_A = 65;
const LETTERS = 26;

/** `BC12` → 55; 0 when there is no reference. */
export function columnOf(reference: string): number {
  let column = 0;
  for (let at = 0; at < reference.length; at++) {
    const letter = reference.charCodeAt(at) - LETTER_A;
    if (letter < 0 || letter >= LETTERS) break;
    column = column * LETTERS + letter + 1;
  }
  return column;
}
