import { afterAll, describe, expect, test } from "vitest";
import type { ReadLimits } from "../../../src/lib/documents/read/document-text.ts";
import { compoundFileOf } from "../../support/document-fixtures/compound-files.ts";
import {
  docxOf,
  docxParts,
  inlineRows,
  wordParagraph,
  xlsxOf,
} from "../../support/document-fixtures/office.ts";
import {
  encryptedPdf,
  pdfOf,
  pdfOfStreams,
  rawPdf,
  showText,
} from "../../support/document-fixtures/pdfs.ts";
import { openReadWorld, textOf } from "../../support/document-fixtures/read-world.ts";
import { declareSize, markEncrypted, zipOf } from "../../support/document-fixtures/zips.ts";

/* Every class of hostile or broken file through the real child process: its own code, and bounded memory. */

const MIB = 2 ** 20;
const world = openReadWorld();
afterAll(() => world.close());

const streamOf = (): Uint8Array => new Uint8Array(5_000).fill(7);

/** Bytes without a pattern, the same in every run. */
function randomBytes(length: number): Uint8Array {
  let state = 12_345;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
}

const bomb = (bytes: number): Uint8Array =>
  zipOf({ ...docxParts(""), "word/document.xml": new Uint8Array(bytes).fill(32) }, 9);

type Content = string | Uint8Array | Promise<Uint8Array>;

const REFUSED: readonly (readonly [what: string, name: string, () => Content, code: string])[] = [
  ["an empty file", "a.pdf", () => "", "document_no_text"],
  ["blanks", "a.txt", () => " \n\t ", "document_no_text"],
  ["a PDF without text", "a.pdf", () => pdfOf([[]]), "document_no_text"],
  ["a document of empty paragraphs", "a.docx", () => docxOf(wordParagraph("")), "document_no_text"],
  ["an encrypted PDF", "a.pdf", encryptedPdf, "document_encrypted"],
  [
    "an encrypted document",
    "a.docx",
    () => compoundFileOf({ EncryptedPackage: streamOf() }),
    "document_encrypted",
  ],
  ["a ZIP entry with a password", "a.docx", () => markEncrypted(docxOf("")), "document_encrypted"],
  [
    "an encrypted mail",
    "a.eml",
    () =>
      "From: a@b.es\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--",
    "document_encrypted",
  ],
  [
    "a truncated document",
    "a.docx",
    () => docxOf(wordParagraph("a")).slice(0, 400),
    "document_corrupt",
  ],
  ["a PDF without catalogue", "a.pdf", () => rawPdf(["<< >>"], "<< >>"), "document_corrupt"],
  [
    "a document without its main part",
    "a.docx",
    () => zipOf({ "word/x.xml": "<a/>" }),
    "document_corrupt",
  ],
  ["a bomb that declares its size", "a.docx", () => bomb(80 * MIB), "document_zip_bomb"],
  [
    "a bomb that lies about its size",
    "a.docx",
    () => declareSize(bomb(80 * MIB), 300_000),
    "document_zip_bomb",
  ],
  [
    "a spreadsheet that lies about its size",
    "a.xlsx",
    () =>
      declareSize(zipOf({ "xl/workbook.xml": new Uint8Array(300 * MIB).fill(32) }, 9), 1_000_000),
    "document_zip_bomb",
  ],
  [
    "an archive of thousands of entries",
    "a.docx",
    () =>
      zipOf(Object.fromEntries(Array.from({ length: 2_500 }, (_, at) => [`word/${at}.xml`, ""]))),
    "document_zip_bomb",
  ],
  [
    "an expansion of entities",
    "a.xlsx",
    () =>
      xlsxOf([{ name: "S", rows: '<row><c t="s"><v>0</v></c></row>' }], {
        doctype: `<!DOCTYPE sst [<!ENTITY a "${"x".repeat(1_000)}"><!ENTITY b "${"&a;".repeat(1_000)}">]>`,
        strings: "<si><t>&b;</t></si>",
      }),
    "document_corrupt",
  ],
  [
    "XML nested a hundred thousand deep",
    "a.xlsx",
    () => xlsxOf([{ name: "S", rows: `${"<a>".repeat(100_000)}${"</a>".repeat(100_000)}` }]),
    "document_corrupt",
  ],
  [
    "a cell beyond the last column",
    "a.xlsx",
    () => xlsxOf([{ name: "S", rows: '<row><c r="ZZZ1"><v>1</v></c></row>' }]),
    "document_too_large",
  ],
  [
    "an old Word file",
    "a.docx",
    () => compoundFileOf({ WordDocument: streamOf() }),
    "document_legacy_format",
  ],
  [
    "an old spreadsheet",
    "a.xls",
    () => compoundFileOf({ Workbook: streamOf() }),
    "document_legacy_format",
  ],
  ["a plain archive", "a.zip", () => zipOf({ "a.txt": "hola" }), "document_unsupported_type"],
  ["random bytes with a good name", "a.pdf", () => randomBytes(4_096), "document_unsupported_type"],
  [
    "a picture with the name of a text",
    "a.txt",
    () =>
      Uint8Array.from([
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52, 0, 0,
        0, 1, 0, 0, 0, 1, 8, 6, 0, 0, 0,
      ]),
    "document_unsupported_type",
  ],
];

test.each(REFUSED)("%s (%s) is refused as %4$s", async (_, name, content, code) => {
  const error = await world.fail(name, await content());
  expect(error.code).toBe(code);
});

describe("limits", () => {
  const LIMITED: readonly (readonly [
    what: string,
    name: string,
    () => Content,
    Partial<ReadLimits>,
    code: string,
  ])[] = [
    ["bytes", "a.txt", () => "hola".repeat(300), { fileBytesMax: 1_000 }, "document_too_large"],
    [
      "characters",
      "a.txt",
      () => "hola".repeat(300),
      { charactersMax: 1_000 },
      "document_too_large",
    ],
    ["pages", "a.pdf", () => pdfOf([[], [], []]), { pagesMax: 2 }, "document_too_many_pages"],
    ["cells", "a.csv", () => "a,b\n".repeat(600), { cellsMax: 1_000 }, "document_too_large"],
    ["columns", "a.csv", () => "a,".repeat(60), { columnsMax: 50 }, "document_too_large"],
    [
      "the heap",
      "a.html",
      () => "<p>hola</p>".repeat(400_000),
      { heapBytesMax: 32 * MIB },
      "document_resource_limit",
    ],
  ];
  test.each(LIMITED)("too many %s end the reading", async (_, name, content, limits, code) => {
    const error = await world.fail(name, await content(), { limits });
    expect(error.code).toBe(code);
  });
});

describe("documents that are large or strange, and still documents", () => {
  const CHILD_PEAK_BYTES_MAX = 350 * MIB;

  const rowOf = (cells: number, value: number): string =>
    `<row>${`<c><v>${value}</v></c>`.repeat(cells)}</row>`;

  const peakOf = async (name: string, content: Content, contains: string): Promise<number> => {
    const document = await world.read(name, await content);
    expect(textOf(document)).toContain(contains);
    return document.cost.peakBytes;
  };

  test("a sheet of a million cells comes out whole, and neither process grows beyond 350 MiB", async () => {
    const rows = Array.from({ length: 100_000 }, (_, at) => rowOf(10, at)).join("");
    const document = await world.read("a.xlsx", xlsxOf([{ name: "S", rows }]));
    const table = document.blocks[1];
    expect(table?.kind === "table" ? table.rows.length : 0).toBe(99_999);
    expect(document.cost.peakBytes).toBeLessThan(CHILD_PEAK_BYTES_MAX);
  });

  test("one cell more is too many", async () => {
    const rows = Array.from({ length: 100_000 }, (_, at) => rowOf(10, at)).join("") + rowOf(1, 1);
    expect((await world.fail("a.xlsx", xlsxOf([{ name: "S", rows }]))).code).toBe(
      "document_too_large",
    );
  });

  test.each<[string, string, () => Content, string]>([
    [
      "a page of a hundred thousand words",
      "a.pdf",
      () =>
        pdfOfStreams([
          Array.from({ length: 100_000 }, (_, at) => showText(`palabra ${at}`)).join("\n"),
        ]),
      "palabra 99999",
    ],
    ["200,000 times the same letter", "a.txt", () => "á".repeat(200_000), "á".repeat(200_000)],
    [
      "words that tokenizers treat as commands",
      "a.txt",
      () => "Fin <|endoftext|> y más",
      "<|endoftext|>",
    ],
    ["NUL bytes in a text", "a.txt", () => "antes\0después", "antesdespués"],
    ["half of a surrogate pair", "a.html", () => "<!doctype html><p>a&#xD800;b", "b"],
    [
      "HTML nested fifty thousand deep",
      "a.html",
      () => `<!doctype html>${"<div>".repeat(50_000)}hondo`,
      "hondo",
    ],
    ["a text with the name of a PDF", "contrato.pdf", () => "No es un PDF", "No es un PDF"],
    [
      "a PDF with the name of a text",
      "contrato.txt",
      () => pdfOf([[{ text: "Es un PDF", y: 700 }]]),
      "Es un PDF",
    ],
    [
      "a path that leaves its archive",
      "a.docx",
      () => zipOf({ ...docxParts(wordParagraph("dentro")), "../../fuera.txt": "x" }),
      "dentro",
    ],
    [
      "a sheet without references",
      "a.xlsx",
      () => xlsxOf([{ name: "S", rows: inlineRows([["hola"]]) }]),
      "hola",
    ],
  ])("%s: %s", async (_, name, content, contains) => {
    expect(await peakOf(name, content(), contains)).toBeLessThan(CHILD_PEAK_BYTES_MAX);
  });

  test("a flood of pages that are declared and missing does not hang", async () => {
    const pdf = rawPdf(
      [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Count 100000000 /Kids [3 0 R] >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
      ],
      "<< /Root 1 0 R >>",
    );
    const error = await world.fail("a.pdf", pdf);
    expect(["document_no_text", "document_too_many_pages"]).toContain(error.code);
  });
});
