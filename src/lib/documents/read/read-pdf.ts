import { getDocumentProxy, getResolvedPDFJS } from "unpdf";
import { permanent } from "../../kernel/errors.ts";
import type { OcrOptions } from "./document-text.ts";
import { joinPdfText, type PdfLine } from "./join-pdf-text.ts";
import { pdfBlocks } from "./pdf-blocks.ts";
import { peelPages } from "./peel-pages.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";

type Pdf = Awaited<ReturnType<typeof getDocumentProxy>>;

/** Every page is read with parsing errors on; one that fails is read again leniently, with a warning. */
export async function readPdf(task: ReadTask): Promise<ReadFacts> {
  const pdf = await openPdf(task.bytes, true);
  const { numPages } = pdf;
  if (numPages > task.limits.pagesMax)
    throw permanent("document_too_many_pages", { max: task.limits.pagesMax });
  const pages = await readPages(pdf, task);
  if (task.ocr !== undefined) await recognisePages(pages, task, task.ocr);
  else if (characters(pages) < pages.length * SCANNED_CHARACTERS_PER_PAGE_MAX)
    await warnOfScans(pdf, pages, task);
  for (const block of pdfBlocks(peelPages(pages))) task.out.block(block);
  const title = await titleOf(pdf);
  return { pages: numPages, meta: title === undefined ? {} : { title } };
}

/** What pdf.js calls a password problem; an owner password alone opens without one. */
const PASSWORD = "PasswordException";

/** pdf.js takes the bytes over, hence the copy. @throws AppError `document_encrypted`, `document_corrupt`. */
async function openPdf(bytes: Uint8Array, isStrict: boolean): Promise<Pdf> {
  try {
    return await getDocumentProxy(bytes.slice(), {
      stopAtErrors: isStrict,
      verbosity: 0,
    });
  } catch (error) {
    const name = error instanceof Error ? error.name : "unknown";
    if (name === PASSWORD) throw permanent("document_encrypted", {}, error);
    throw permanent("document_corrupt", { reason: name }, error);
  }
}

async function readPages(strict: Pdf, { bytes, limits, out }: ReadTask): Promise<PdfLine[][]> {
  const pages: PdfLine[][] = [];
  let lenient: Promise<Pdf> | undefined;
  let found = 0;
  for (let page = 1; page <= strict.numPages; page++) {
    try {
      pages.push(await readPage(strict, page));
    } catch {
      out.warn({ code: "page_damaged", page });
      lenient ??= openPdf(bytes, false);
      pages.push(await lenient.then((pdf) => readPage(pdf, page)).catch(() => []));
    }
    found += characters(pages.slice(-1));
    if (found > limits.charactersMax)
      throw permanent("document_too_large", { limit: "characters", max: limits.charactersMax });
  }
  return pages;
}

async function readPage(pdf: Pdf, number: number): Promise<PdfLine[]> {
  const page = await pdf.getPage(number);
  const { items } = await page.getTextContent();
  page.cleanup();
  return joinPdfText(items).map((line) => ({ ...line, text: line.text.normalize("NFKC").trim() }));
}

const characters = (pages: readonly (readonly PdfLine[])[]): number =>
  pages.reduce((sum, lines) => lines.reduce((inPage, { text }) => inPage + text.length, sum), 0);

/** On average, with pictures: fewer is the look of a scan. */
const SCANNED_CHARACTERS_PER_PAGE_MAX = 20;
/** Looking for pictures costs as much as drawing. */
const PICTURE_PAGES_MAX = 3;

async function warnOfScans(
  pdf: Pdf,
  pages: readonly (readonly PdfLine[])[],
  { out }: ReadTask,
): Promise<void> {
  const { OPS } = await getResolvedPDFJS();
  const pictures: number[] = [
    OPS.paintImageXObject,
    OPS.paintInlineImageXObject,
    OPS.paintImageMaskXObject,
  ];
  const isBare = (lines: readonly PdfLine[]) =>
    characters([lines]) < SCANNED_CHARACTERS_PER_PAGE_MAX;
  const bare = [...pages.keys()].filter((index) => isBare(pages[index] ?? []));
  for (const index of bare.slice(0, PICTURE_PAGES_MAX)) {
    const operators = await pdf
      .getPage(index + 1)
      .then((page) => page.getOperatorList())
      .then(({ fnArray }) => fnArray)
      .catch(() => []);
    if (operators.some((operator: number) => pictures.includes(operator))) {
      out.warn({ code: "probably_scanned" });
      return;
    }
  }
}

async function titleOf(pdf: Pdf): Promise<string | undefined> {
  const { info } = await pdf.getMetadata().catch(() => ({ info: {} }));
  const title: unknown = "Title" in info ? info.Title : undefined;
  return typeof title === "string" && title.trim() !== "" ? title : undefined;
}

async function recognisePages(pages: PdfLine[][], task: ReadTask, ocr: OcrOptions): Promise<void> {
  const { recognisePdf } = await import("./recognise-pdf.ts");
  const isBare = (lines: readonly PdfLine[]) =>
    characters([lines]) < SCANNED_CHARACTERS_PER_PAGE_MAX;
  const bare = [...pages.keys()].filter((index) => isBare(pages[index] ?? []));
  for (const [index, text] of await recognisePdf(task, ocr, bare))
    pages[index] = recognisedLines(text);
}

/** Recognition leaves an empty line between paragraphs, and says nothing about sizes. */
function recognisedLines(text: string): PdfLine[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines
    .map((line, at) => ({
      text: line,
      height: 1,
      ...((lines[at - 1] ?? "") === "" ? {} : { gap: 1 }),
    }))
    .filter((line) => line.text !== "");
}
