import type { OfficeError, OfficeIssue, OfficeParserAST, OfficeParserConfig } from "officeparser";
import { AppError, permanent } from "../../kernel/errors.ts";
import { officeBlocks } from "./office-blocks.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";
import { readHeadingStyles } from "./word-styles.ts";

export async function readWord(task: ReadTask): Promise<ReadFacts> {
  const styles = readHeadingStyles(task);
  const document = await parse(task, "docx");
  return put(task, document, styles);
}

export async function readOpenText(task: ReadTask): Promise<ReadFacts> {
  return put(task, await parse(task, "odt"), new Map());
}

/** Each slide is a section and a page. */
export async function readSlides(task: ReadTask): Promise<ReadFacts> {
  const document = await parse(task, "pptx");
  const slides = document.content.filter(({ type }) => type === "slide").length;
  if (slides > task.limits.pagesMax)
    throw permanent("document_too_many_pages", { max: task.limits.pagesMax });
  return { ...put(task, document, new Map()), pages: slides };
}

function put(
  { out }: ReadTask,
  { content, metadata }: OfficeParserAST,
  styles: ReadonlyMap<string, number>,
): ReadFacts {
  for (const block of officeBlocks(content, styles)) out.block(block);
  const title = metadata.title?.trim();
  return title === undefined || title === "" ? {} : { meta: { title } };
}

/** An element costs several hundred bytes. */
const XML_ELEMENTS_MAX = 1_000_000;

/** Only its readers of XML: neither its PDF nor its recognition, and nothing is unpacked to disk. */
async function parse(
  { bytes, limits, out, allowance }: ReadTask,
  fileType: "docx" | "pptx" | "odt",
): Promise<OfficeParserAST> {
  const { parseOffice } = await import("officeparser");
  const config: OfficeParserConfig = {
    fileType,
    ocr: false,
    extractAttachments: false,
    ignoreHeadersAndFooters: true,
    ignoreSlideMasters: true,
    ignoreComments: true,
    ignorePageGeometry: true,
    decompressionLimits: {
      maxUncompressedBytes: Math.min(limits.inflatedBytesMax, allowance.inflatedBytes),
      maxZipEntries: limits.zipEntriesMax,
      maxTableCells: limits.cellsMax,
      maxXmlElements: XML_ELEMENTS_MAX,
    },
    onWarning: (issue) => {
      if (LOSSES.has(issue.code))
        out.warn({ code: "content_left_out", detail: issue.code.toLowerCase() });
    },
  };
  try {
    return await parseOffice(Buffer.from(bytes), config);
  } catch (error) {
    throw classifyOfficeError(error);
  }
}

/** Warnings that say that text is missing. */
const LOSSES: ReadonlySet<OfficeIssue["code"]> = new Set([
  "TABLE_CELL_LIMIT_EXCEEDED",
  "REPEATED_CONTENT_LIMIT_EXCEEDED",
  "ALT_CHUNK_NOT_READ",
  "CONTENT_PART_NOT_READ",
] as OfficeIssue["code"][]);

const CODES: Readonly<Record<string, () => AppError>> = {
  PASSWORD_REQUIRED: () => permanent("document_encrypted"),
  PASSWORD_INCORRECT: () => permanent("document_encrypted"),
  DOCUMENT_DECRYPTION_FAILED: () => permanent("document_encrypted"),
  ZIP_SIZE_LIMIT_EXCEEDED: () =>
    permanent("document_zip_bomb", { limit: "inflated_bytes_counted" }),
  ZIP_ENTRY_COUNT_LIMIT_EXCEEDED: () => permanent("document_zip_bomb", { limit: "entries" }),
  XML_ELEMENT_LIMIT_EXCEEDED: () =>
    permanent("document_too_large", { limit: "xml_elements", max: XML_ELEMENTS_MAX }),
  EXTENSION_UNSUPPORTED: () => permanent("document_unsupported_type"),
  IMPROPER_BUFFERS: () => permanent("document_unsupported_type"),
};

function classifyOfficeError(error: unknown): unknown {
  if (error instanceof AppError || !isOfficeError(error)) return error;
  const code = error.officeIssue?.code ?? "unknown";
  return CODES[code]?.() ?? permanent("document_corrupt", { reason: code.toLowerCase() }, error);
}

const isOfficeError = (error: unknown): error is OfficeError =>
  error instanceof Error && "officeIssue" in error;
