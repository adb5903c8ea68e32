import { fileTypeFromBuffer } from "file-type";
import { permanent } from "../../kernel/errors.ts";
import { decodeText, isBinary } from "./decode-text.ts";
import type { DocumentType, ReadLimits } from "./document-text.ts";
import {
  type Allowance,
  checkDirectory,
  entryText,
  readDirectory,
  type ZipEntry,
} from "./zip-archive.ts";

export interface SniffRequest {
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly declaredCharset?: string | undefined;
  readonly limits: ReadLimits;
  readonly allowance: Allowance;
}

/**
 * What the bytes are. Content wins over the extension, which decides only between kinds of text; the declared type is
 * not asked. Archives are checked by their directory here, before any parser sees them.
 *
 * @throws AppError `document_no_text`, `document_unsupported_type`, `document_legacy_format`, `document_encrypted`,
 * `document_corrupt`, `document_zip_bomb`.
 */
export async function sniffType(request: SniffRequest): Promise<DocumentType> {
  const { bytes } = request;
  if (bytes.length === 0) throw permanent("document_no_text", { reason: "empty" });
  if (startsWith(bytes, ZIP)) return archiveType(request);
  if (startsWith(bytes, COMPOUND_FILE)) return compoundFileType(bytes);
  if (isPdf(bytes)) return "pdf";
  const found = await fileTypeFromBuffer(bytes);
  if (found !== undefined && !isTextual(found.mime))
    throw permanent("document_unsupported_type", { found: found.ext });
  return textType(request);
}

const ZIP = [0x50, 0x4b];
const COMPOUND_FILE = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/** Readers of PDF accept something before the header. */
const PDF_HEADER_BYTES = 1_024;

const startsWith = (bytes: Uint8Array, magic: readonly number[]): boolean =>
  magic.every((byte, at) => bytes[at] === byte);

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const isPdf = (bytes: Uint8Array): boolean =>
  bufferOf(bytes.subarray(0, PDF_HEADER_BYTES)).includes("%PDF-");

const isTextual = (mime: string): boolean =>
  mime.startsWith("text/") || mime === "application/xml" || mime === "message/rfc822";

const OFFICE_FOLDERS: readonly (readonly [string, DocumentType])[] = [
  ["word/", "docx"],
  ["ppt/", "pptx"],
  ["xl/", "xlsx"],
];

function archiveType({ bytes, limits, allowance }: SniffRequest): DocumentType {
  if (![0x0304, 0x0506, 0x0708].includes(((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0)))
    throw permanent("document_unsupported_type", { found: "unknown" });
  const entries = readDirectory(bytes, limits.zipEntriesMax);
  const type = typeByEntries(bytes, entries, allowance);
  if (type === undefined) throw permanent("document_unsupported_type", { found: "zip" });
  const inflatedMax = type === "xlsx" ? limits.sheetInflatedBytesMax : limits.inflatedBytesMax;
  checkDirectory(entries, inflatedMax, limits);
  return type;
}

function typeByEntries(
  bytes: Uint8Array,
  entries: readonly ZipEntry[],
  allowance: Allowance,
): DocumentType | undefined {
  const folder = OFFICE_FOLDERS.find(([prefix]) =>
    entries.some(({ name }) => name.startsWith(prefix) && name.endsWith(".xml")),
  );
  if (folder !== undefined) return folder[1];
  const mimetype = entries.find(({ name }) => name === "mimetype");
  if (mimetype === undefined || mimetype.inflatedBytes > 200) return undefined;
  const declared = entryText(bytes, mimetype, allowance).trim();
  return declared.startsWith("application/vnd.oasis.opendocument.text") ? "odt" : undefined;
}

/** Names of streams in a compound file, which holds encrypted documents, old ones, and mails. */
const STREAM = {
  encrypted: ["EncryptedPackage"],
  mail: ["__substg1.0_"],
  legacy: ["WordDocument", "Workbook", "Book", "PowerPoint Document"],
} as const;

function compoundFileType(bytes: Uint8Array): DocumentType {
  const buffer = bufferOf(bytes);
  const has = (names: readonly string[]): boolean =>
    names.some((name) => buffer.includes(name, 0, "utf16le"));
  if (has(STREAM.encrypted)) throw permanent("document_encrypted");
  if (has(STREAM.mail)) return "msg";
  if (has(STREAM.legacy)) throw permanent("document_legacy_format");
  throw permanent("document_unsupported_type", { found: "compound file" });
}

const BY_EXTENSION: Readonly<Record<string, DocumentType>> = {
  htm: "html",
  html: "html",
  xhtml: "html",
  md: "markdown",
  markdown: "markdown",
  csv: "csv",
  tsv: "csv",
  eml: "eml",
};

/** Enough to see how a text begins. */
const HEAD_CODE_UNITS = 4_096;
const HTML_HEAD =
  /^\s*(?:<\?xml[^>]*>\s*)?(?:<!--[\s\S]*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b/i;
const MAIL_HEADER = /^(?:[\w-]+:.*\r?\n(?:[ \t].*\r?\n)*){2,}/;
const MAIL_ONLY =
  /^(?:received|return-path|mime-version|message-id|delivered-to|x-[\w-]+|dkim-signature):/im;
const MAIL_FROM = /^from:.*@/im;

function textType({ bytes, name, declaredCharset }: SniffRequest): DocumentType {
  const decoded = decodeText(bytes, declaredCharset);
  if (isBinary(decoded)) throw permanent("document_unsupported_type", { found: "binary" });
  const head = decoded.text.slice(0, HEAD_CODE_UNITS).replace(/^\ufeff/, "");
  if (HTML_HEAD.test(head)) return "html";
  const header = MAIL_HEADER.exec(head)?.[0] ?? "";
  if (MAIL_ONLY.test(header) && MAIL_FROM.test(header)) return "eml";
  return BY_EXTENSION[extensionOf(name)] ?? "text";
}

export const extensionOf = (name: string): string =>
  /\.([a-z0-9]{1,10})$/i.exec(name)?.[1]?.toLowerCase() ?? "";
