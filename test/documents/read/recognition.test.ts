import { PDFiumLibrary } from "@hyzyla/pdfium";
import { afterAll, beforeAll, expect, test } from "vitest";
import { linesAt, pdfOf, scannedPdf } from "../../support/document-fixtures/pdfs.ts";
import { openReadWorld, textOf } from "../../support/document-fixtures/read-world.ts";

/* A page of text is drawn, and the drawing is put into a PDF of its own: a scan. */

const SLOW_MS = 120_000;
const world = openReadWorld();
let scan: Uint8Array;

beforeAll(async () => {
  const library = await PDFiumLibrary.init();
  const text = await pdfOf([linesAt(["Contrato de arrendamiento de vivienda"], 22)]);
  const document = await library.loadDocument(text);
  const { width, height, data } = await document
    .getPage(0)
    .render({ scale: 2, colorSpace: "Gray" });
  scan = scannedPdf(width, height, data);
  document.destroy();
  library.destroy();
});
afterAll(() => world.close());

test("a scan holds no text unless it is recognised", async () => {
  expect((await world.fail("a.pdf", scan)).code).toBe("document_no_text");
});

test(
  "recognition reads a scan, in the process without network",
  async () => {
    const document = await world.read("a.pdf", scan, { ocr: { languages: ["spa"], pagesMax: 1 } });
    expect(textOf(document)).toBe("Contrato de arrendamiento de vivienda");
    expect(document.warnings).toEqual([]);
  },
  SLOW_MS,
);

test("nothing is recognised beyond the bound", async () => {
  const error = await world.fail("a.pdf", scan, { ocr: { languages: ["spa"], pagesMax: 0 } });
  expect(error.code).toBe("document_no_text");
});
