import type { DocumentMeta, OcrOptions, ReadLimits } from "./document-text.ts";
import type { Output } from "./output.ts";
import type { Allowance } from "./zip-archive.ts";

/** What a reader works with. One per file: an attachment has its own, with the same output and allowances. */
export interface ReadTask {
  readonly bytes: Uint8Array;
  /** File name; not to be trusted, only its extension means something. */
  readonly name: string;
  /** From the declared content type, lower case. */
  readonly declaredCharset?: string | undefined;
  readonly limits: ReadLimits;
  readonly out: Output;
  /** 0 for the document itself, 1 for its attachments. */
  readonly depth: number;
  readonly allowance: Allowance;
  readonly ocr?: OcrOptions | undefined;
  /** Reads it like a document, as a section. What cannot be read is a warning of the mail around it. */
  readAttachment(attachment: Attachment): Promise<void>;
}

export interface Attachment {
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly declaredCharset?: string | undefined;
}

/** What a reader says besides its blocks. */
export interface ReadFacts {
  readonly pages?: number;
  readonly meta?: DocumentMeta;
}

/** Puts the blocks of one format into `task.out`. Throws AppErrors of documents; anything else is `document_corrupt`. */
export type Reader = (task: ReadTask) => Promise<ReadFacts> | ReadFacts;
