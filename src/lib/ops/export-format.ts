export const FORMATS = ["ndjson", "csv"] as const;
export type ExportFormat = (typeof FORMATS)[number];

/** Amounts that may exceed 2^53 are text. */
export type Cell = string | number | null;
export type Row = readonly Cell[];

export interface Encoding {
  readonly contentType: string;
  readonly extension: string;
  /** What stands before the first row. */
  head(columns: readonly string[]): string;
  rows(columns: readonly string[], rows: readonly Row[]): string;
}

const ndjson: Encoding = {
  contentType: "application/x-ndjson",
  extension: "ndjson",
  head: () => "",
  rows: (columns, rows) =>
    rows.map((row) => `${JSON.stringify(toObject(columns, row))}\n`).join(""),
};

const csv: Encoding = {
  contentType: "text/csv; charset=utf-8",
  extension: "csv",
  head: (columns) => csvLine(columns),
  rows: (_columns, rows) => rows.map(csvLine).join(""),
};

export const ENCODINGS: Readonly<Record<ExportFormat, Encoding>> = { ndjson, csv };

const toObject = (columns: readonly string[], row: Row): Record<string, Cell> =>
  Object.fromEntries(columns.map((column, i) => [column, row[i] ?? null]));

/** RFC 4180. Spreadsheets run what begins like a formula: such a text gets an apostrophe in front. */
const csvLine = (row: Row): string => `${row.map(csvCell).join(",")}\r\n`;

function csvCell(cell: Cell): string {
  if (cell === null) return "";
  const text = typeof cell === "number" || isAmount(cell) ? String(cell) : harmless(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const isAmount = (text: string): boolean => /^-?\d+(\.\d+)?$/.test(text);
const harmless = (text: string): string => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
