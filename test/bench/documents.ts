import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { escapeXml, xlsxOf } from "../support/document-fixtures/office.ts";
import { type PdfText, pdfOf } from "../support/document-fixtures/pdfs.ts";
import { median } from "./compare.ts";

/*
 * The readers beside the libraries they stand on or replace, in turn, each run in a process of its own, after its modules
 * are loaded:
 *   PDF   against bare unpdf, which is the most that any reader on top of it can reach
 *   XLSX  against exceljs, with the peak of its memory
 */

const ROUNDS = 3;
const SELF = fileURLToPath(import.meta.url);

/** Loads what it needs, then reads; the text is looked at when the time is taken. */
type Contender = (path: string) => Promise<() => Promise<string>>;

const CONTENDERS: Readonly<Record<string, Contender>> = { ours, unpdf, exceljs };

/** What the child process does: read, clean, count and write lines; without sending them. */
async function ours(path: string): Promise<() => Promise<string>> {
  const { READ_LIMITS } = await import("../../src/lib/documents/read/document-text.ts");
  const { openOutput } = await import("../../src/lib/documents/read/output.ts");
  const { readOne } = await import("../../src/lib/documents/read/read-one.ts");
  const { READERS } = await import("../../src/lib/documents/read/readers.ts");
  await (path.endsWith("pdf") ? READERS.pdf() : READERS.xlsx());
  return async () => {
    const lines: string[] = [];
    const out = openOutput(READ_LIMITS, (line) => lines.push(line));
    const allowance = { inflatedBytes: READ_LIMITS.sheetInflatedBytesMax, attachments: 0 };
    const bytes = new Uint8Array(readFileSync(path));
    await readOne({ bytes, name: path, limits: READ_LIMITS, out, depth: 0, allowance }, READERS);
    return lines.join("\n").replace(/\\[nt]/g, " ");
  };
}

async function unpdf(path: string): Promise<() => Promise<string>> {
  const { getDocumentProxy, getResolvedPDFJS } = await import("unpdf");
  await getResolvedPDFJS();
  return async () => {
    const pdf = await getDocumentProxy(new Uint8Array(readFileSync(path)), { verbosity: 0 });
    let text = "";
    for (let number = 1; number <= pdf.numPages; number++) {
      const page = await pdf.getPage(number);
      const { items } = await page.getTextContent();
      page.cleanup();
      for (const item of items) if ("str" in item) text += item.str + (item.hasEOL ? "\n" : "");
    }
    return text;
  };
}

async function exceljs(path: string): Promise<() => Promise<string>> {
  const { default: library } = await import("exceljs");
  return async () => {
    const workbook = new library.Workbook();
    await workbook.xlsx.readFile(path);
    const cells: string[] = [];
    workbook.eachSheet((sheet) =>
      sheet.eachRow((row) => row.eachCell((cell) => cells.push(cell.text))),
    );
    return cells.join("\t");
  };
}

const RunSchema = z.object({ ms: z.number(), peakMib: z.number(), found: z.number() });
type Run = z.infer<typeof RunSchema>;

interface Document {
  readonly title: string;
  readonly file: string;
  readonly bytes: () => Promise<Uint8Array>;
  /** Each is looked for among what came out. */
  readonly tokens: readonly string[];
  readonly contenders: readonly string[];
}

const CELL_PREFIXES = ["cliente", "importe", "ciudad", "fecha"];

/** A table without lines on every page, drawn cell by cell, so that only distances divide its cells. */
function tablePage(page: number): PdfText[] {
  return Array.from({ length: 45 }, (_, row) =>
    CELL_PREFIXES.map((prefix, column) => ({
      text: `${prefix}${page}x${row}`,
      x: 50 + column * 130,
      y: 790 - row * 16,
    })),
  ).flat();
}

const pageTokens = (page: number): string[] => tablePage(page).map(({ text }) => text);

/** Shared strings of a thousand concepts, beside numbers; or texts in the cells themselves. */
function sheetBytes(rows: number, isShared: boolean): Uint8Array {
  const concept = (at: number) => escapeXml(`Nº ${at % 1_000}`);
  const text = (at: number) =>
    isShared ? `t="s"><v>${at % 1_000}</v>` : `t="inlineStr"><is><t>${concept(at)}</t></is>`;
  const body = Array.from(
    { length: rows },
    (_, at) =>
      `<row r="${at + 1}"><c r="A${at + 1}"><v>${at}</v></c><c r="B${at + 1}"><v>${at * 2}.5</v></c><c r="C${at + 1}" ${text(at)}</c></row>`,
  ).join("");
  const strings = Array.from({ length: 1_000 }, (_, at) => `<si><t>${concept(at)}</t></si>`);
  return xlsxOf([{ name: "S", rows: body }], { strings: isShared ? strings.join("") : "" });
}

const sheet = (title: string, rows: number, isShared: boolean): Document => ({
  title: `XLSX, ${title}`,
  file: `${rows}${isShared ? "s" : "i"}.xlsx`,
  bytes: async () => sheetBytes(rows, isShared),
  tokens: ["Nº", "999", String(rows - 1)],
  contenders: ["exceljs", "ours"],
});

const DOCUMENTS: readonly Document[] = [
  {
    title: "PDF, 300 pages of tables without lines, 54,000 cells",
    file: "tables.pdf",
    bytes: () => pdfOf(Array.from({ length: 300 }, (_, page) => tablePage(page))),
    tokens: [0, 150, 299].flatMap(pageTokens),
    contenders: ["unpdf", "ours"],
  },
  sheet("1,000 rows", 1_000, true),
  sheet("20,000 rows, shared strings", 20_000, true),
  sheet("20,000 rows, texts in the cells", 20_000, false),
  sheet("200,000 rows, shared strings", 200_000, true),
];

const [mode, contender, path, tokens] = process.argv.slice(2);
if (mode === "run") await runOne(contender ?? "", path ?? "", JSON.parse(tokens ?? "[]"));
else await main();

async function runOne(name: string, file: string, expected: readonly string[]): Promise<void> {
  const read = await CONTENDERS[name]?.(file);
  const startedAt = performance.now();
  const text = (await read?.()) ?? "";
  const ms = performance.now() - startedAt;
  const peakMib = process.resourceUsage().maxRSS / 1_024;
  const words = new Set(text.match(/[\p{L}\p{N}]+/gu));
  const found = expected.filter((token) => words.has(token)).length;
  console.log(JSON.stringify({ ms, peakMib, found }));
  process.exit(0);
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
  for (const document of DOCUMENTS) {
    const file = join(folder, document.file);
    writeFileSync(file, await document.bytes());
    report(document, compareOn(file, document));
  }
  rmSync(folder, { recursive: true });
}

function compareOn(file: string, { contenders, tokens: expected }: Document): Map<string, Run[]> {
  const runs = new Map<string, Run[]>(contenders.map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of contenders) {
      const args = [SELF, "run", name, file, JSON.stringify(expected)];
      const output = execFileSync(process.execPath, args, { encoding: "utf8" });
      runs.get(name)?.push(RunSchema.parse(JSON.parse(output)));
    }
  }
  return runs;
}

function report({ title, tokens: expected }: Document, runs: ReadonlyMap<string, Run[]>): void {
  console.log(`\n${title}`);
  const middle = (list: readonly Run[], of: (run: Run) => number) => median(list.map(of));
  const [baseline = []] = runs.values();
  for (const [name, list] of runs) {
    const ms = middle(list, (run) => run.ms);
    const peak = middle(list, (run) => run.peakMib);
    const speed = middle(baseline, (run) => run.ms) / ms;
    const memory = peak / middle(baseline, (run) => run.peakMib);
    const found = middle(list, (run) => run.found);
    console.log(
      `  ${name.padEnd(10)} ${ms.toFixed(0).padStart(7)} ms  ×${speed.toFixed(2)}   ${peak.toFixed(0).padStart(5)} MiB  ×${memory.toFixed(2)}   ${found} of ${expected.length} tokens`,
    );
  }
}
