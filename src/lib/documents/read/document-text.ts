import type { Block, Warning } from "../block.ts";

/** What the content is, whatever the name or the sender says. */
export type DocumentType =
  | "pdf"
  | "docx"
  | "pptx"
  | "xlsx"
  | "odt"
  | "html"
  | "markdown"
  | "text"
  | "csv"
  | "eml"
  | "msg";

/** A document that was read. At least one character came out: a document without text is `document_no_text`. */
export interface DocumentText {
  readonly type: DocumentType;
  /** In reading order. */
  readonly blocks: readonly Block[];
  /** Not empty: part of the document is lost, or may be; the document is `ready_partial`. */
  readonly warnings: readonly Warning[];
  /** Pages of a PDF, slides, sheets; absent where the format has none. */
  readonly pages?: number;
  /** UTF-16 code units in all blocks. */
  readonly characters: number;
  readonly meta: DocumentMeta;
  readonly cost: ReadCost;
}

export interface DocumentMeta {
  /** As the document itself says: title of its properties, `<title>`, subject of a mail. At most 500 code units. */
  readonly title?: string;
  /** Of texts: the encoding that was found, such as `utf-8` or `windows-1252`. */
  readonly charset?: string;
}

export interface ReadCost {
  /** From the start of the child process to its last answer. */
  readonly durationMs: number;
  /** Largest resident memory of the child process that was seen. */
  readonly peakBytes: number;
}

/** Bounds of one document. Lower ones may be given per plan; higher ones are not supported. */
export interface ReadLimits {
  /** Of the file. `document_too_large` */
  readonly fileBytesMax: number;
  /** Of all parts of an archive after inflation, declared and counted. `document_zip_bomb` */
  readonly inflatedBytesMax: number;
  /** The same for spreadsheets, which are read as a stream. */
  readonly sheetInflatedBytesMax: number;
  /** `document_zip_bomb` */
  readonly zipEntriesMax: number;
  /** Inflated to packed, above 1 MiB inflated. `document_zip_bomb` */
  readonly zipRatioMax: number;
  /** Pages, slides. `document_too_many_pages` */
  readonly pagesMax: number;
  /** UTF-16 code units that come out. `document_too_large` */
  readonly charactersMax: number;
  /** Of all sheets or rows of a document. `document_too_large` */
  readonly cellsMax: number;
  /** Columns of a sheet or CSV. `document_too_large` */
  readonly columnsMax: number;
  /** A mail in a mail is 1; deeper ones are left out with a warning. */
  readonly attachmentDepthMax: number;
  /** Attachments of all depths; more are left out with a warning. */
  readonly attachmentsMax: number;
  /** Of the child process, wall clock. `document_resource_limit` */
  readonly durationMsMax: number;
  /** V8 heap of the child process. `document_resource_limit` */
  readonly heapBytesMax: number;
  /** Resident memory of the child process. `document_resource_limit` */
  readonly residentBytesMax: number;
}

const MIB = 2 ** 20;

export const READ_LIMITS: ReadLimits = {
  fileBytesMax: 25 * MIB,
  inflatedBytesMax: 64 * MIB,
  sheetInflatedBytesMax: 256 * MIB,
  zipEntriesMax: 2_000,
  zipRatioMax: 200,
  pagesMax: 2_000,
  charactersMax: 5_000_000,
  cellsMax: 1_000_000,
  columnsMax: 1_024,
  attachmentDepthMax: 2,
  attachmentsMax: 50,
  durationMsMax: 120_000,
  heapBytesMax: 512 * MIB,
  residentBytesMax: 1_024 * MIB,
};

/** Reading of scanned pages; needs the optional packages, else `document_ocr_unavailable`. */
export interface OcrOptions {
  readonly languages: readonly OcrLanguage[];
  /** Pages that are recognised; those after it keep what text they have, with a warning. */
  readonly pagesMax: number;
}

export type OcrLanguage = "eng" | "spa";
