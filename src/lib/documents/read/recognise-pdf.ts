import { createRequire } from "node:module";
import { dirname } from "node:path";
import { permanent } from "../../kernel/errors.ts";
import type { OcrLanguage, OcrOptions } from "./document-text.ts";
import type { ReadTask } from "./reader.ts";

/** Pixels per point: 216 per inch, at which small print is still read. */
const SCALE = 3;
/** Of a page that is drawn; a poster is drawn smaller. */
const PIXELS_MAX = 12_000_000;

interface Recognised {
  readonly text: string;
  /** 0 to 100. */
  readonly confidence: number;
}

/**
 * Draws pages and recognises their text, with what lies on this machine only. Each language reads every page, and the
 * one that is more certain wins: the recogniser loads several languages only from one folder, and each has its own.
 *
 * @param pages from 0, in order; those beyond `pagesMax` are left out with a warning.
 * @throws AppError `document_ocr_unavailable` when the optional packages are missing.
 */
export async function recognisePdf(
  { bytes, out }: ReadTask,
  { languages, pagesMax }: OcrOptions,
  pages: readonly number[],
): Promise<Map<number, string>> {
  const chosen = pages.slice(0, pagesMax);
  for (const page of pages.slice(pagesMax))
    out.warn({ code: "page_not_recognised", page: page + 1 });
  const best = new Map<number, Recognised>();
  for (const language of languages) {
    const found = await recogniseIn(language, bytes, chosen);
    for (const [page, text] of found) {
      if (text.confidence > (best.get(page)?.confidence ?? -1)) best.set(page, text);
    }
  }
  return new Map([...best].map(([page, { text }]) => [page, text]));
}

async function recogniseIn(
  language: OcrLanguage,
  bytes: Uint8Array,
  pages: readonly number[],
): Promise<Map<number, Recognised>> {
  const { createWorker } = await installed(() => import("tesseract.js"));
  const worker = await createWorker(language, undefined, {
    langPath: dataFolder(language),
    cacheMethod: "none",
  });
  try {
    const found = new Map<number, Recognised>();
    for await (const { page, image } of drawPages(bytes, pages)) {
      const { data } = await worker.recognize(image);
      found.set(page, { text: data.text, confidence: data.confidence });
    }
    return found;
  } finally {
    await worker.terminate();
  }
}

/** Grey pictures in the plainest of formats. */
async function* drawPages(
  bytes: Uint8Array,
  pages: readonly number[],
): AsyncGenerator<{ page: number; image: Buffer }> {
  const { PDFiumLibrary } = await installed(() => import("@hyzyla/pdfium"));
  const library = await PDFiumLibrary.init();
  const document = await library.loadDocument(bytes);
  try {
    for (const page of pages) {
      const drawn = document.getPage(page);
      const { originalWidth, originalHeight } = drawn.getOriginalSize();
      const scale = Math.min(SCALE, Math.sqrt(PIXELS_MAX / (originalWidth * originalHeight)));
      const { width, height, data } = await drawn.render({ scale, colorSpace: "Gray" });
      yield { page, image: Buffer.concat([Buffer.from(`P5\n${width} ${height}\n255\n`), data]) };
    }
  } finally {
    document.destroy();
    library.destroy();
  }
}

const require = createRequire(import.meta.url);

function dataFolder(language: OcrLanguage): string {
  const file = `@tesseract.js-data/${language}/4.0.0_best_int/${language}.traineddata.gz`;
  try {
    return dirname(require.resolve(file));
  } catch (error) {
    throw permanent("document_ocr_unavailable", { missing: file }, error);
  }
}

async function installed<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    throw permanent("document_ocr_unavailable", {}, error);
  }
}
