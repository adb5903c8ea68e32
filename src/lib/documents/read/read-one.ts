import { AppError, permanent, transient } from "../../kernel/errors.ts";
import type { DocumentType } from "./document-text.ts";
import type { Attachment, Reader, ReadFacts, ReadTask } from "./reader.ts";
import { sniffType } from "./sniff.ts";

/** The parsers are large, so that each is loaded only for its own format. */
export type Readers = Readonly<Record<DocumentType, () => Promise<Reader>>>;

export interface ReadOne extends ReadFacts {
  readonly type: DocumentType;
}

export type FileTask = Omit<ReadTask, "readAttachment">;

/** Finds out what the bytes are and reads them, into the output of the task. Used for attachments too. */
export async function readOne(file: FileTask, readers: Readers): Promise<ReadOne> {
  const type = await sniffType(file);
  const reader = await readers[type]();
  const task: ReadTask = {
    ...file,
    readAttachment: (attachment) => readAttachment(file, attachment, readers),
  };
  try {
    return { type, ...(await reader(task)) };
  } catch (error) {
    throw classifyParserError(error);
  }
}

async function readAttachment(
  parent: FileTask,
  attachment: Attachment,
  readers: Readers,
): Promise<void> {
  const { out, allowance, limits } = parent;
  const depth = parent.depth + 1;
  const refuse = (detail: string) => out.warn({ code: "attachment_left_out", detail });
  if (depth > limits.attachmentDepthMax) return refuse("depth");
  if (--allowance.attachments < 0) return refuse("count");
  out.block({ kind: "section", sort: "attachment", title: attachment.name });
  const before = out.characters;
  try {
    const { bytes, name, declaredCharset } = attachment;
    await readOne({ ...parent, bytes, name, declaredCharset, depth }, readers);
    if (out.characters === before) refuse("document_no_text");
  } catch (error) {
    if (!(error instanceof AppError) || endsDocument(error)) throw error;
    refuse(error.code);
  }
}

/** What is used up for one attachment is used up for all that follows. */
const SHARED_LIMITS = ["characters", "cells", "inflated_bytes_counted"];

const endsDocument = ({ code, details }: AppError): boolean =>
  code === "document_resource_limit" ||
  code === "document_ocr_unavailable" ||
  (typeof details["limit"] === "string" && SHARED_LIMITS.includes(details["limit"]));

/** V8 says so when the stack or an allocation is at its end; the document asked for it. */
const EXHAUSTED =
  /call stack|allocation failed|invalid (?:string|array|typed array) length|string longer/i;

/** Parsers are deterministic: what they throw and no reader knows, the next attempt would throw again. */
function classifyParserError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const { name, message } = error instanceof Error ? error : new Error("thrown value");
  if (name === "RangeError" && EXHAUSTED.test(message))
    return transient("document_resource_limit", { reason: "exhausted" }, error);
  return permanent("document_corrupt", { reason: name.slice(0, 100) }, error);
}
