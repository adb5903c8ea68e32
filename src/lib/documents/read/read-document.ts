import { invariant } from "../../kernel/errors.ts";
import type { DocumentText, OcrOptions, ReadLimits } from "./document-text.ts";

export interface ReadDocumentRequest {
  /** The fetched file; it is only read. */
  readonly path: string;
  /** As the uploader called it; its extension decides where the content does not. */
  readonly name: string;
  /** Content type that the uploader declared; only its charset is used. */
  readonly declaredType?: string;
  /** Defaults: `READ_LIMITS`. */
  readonly limits?: Partial<ReadLimits>;
  /** Off unless given. */
  readonly ocr?: OcrOptions;
  /** Kills the child process. */
  readonly signal: AbortSignal;
}

/**
 * Reads one document in a child process of its own, so that a hostile file can end nothing but that process.
 *
 * @throws AppError permanent: `document_encrypted`, `document_corrupt`, `document_unsupported_type`,
 * `document_legacy_format`, `document_too_large`, `document_too_many_pages`, `document_zip_bomb`, `document_no_text`,
 * `document_ocr_unavailable` · transient: `document_resource_limit` (the child was killed for time or memory, or ended
 * without a result; worth one more attempt, not more); the reason of the signal.
 */
export async function readDocument(_request: ReadDocumentRequest): Promise<DocumentText> {
  invariant(false, "reading is not connected yet");
}
