import { stat } from "node:fs/promises";
import { abortError, callWithin } from "../../kernel/deadline.ts";
import { permanent, transient } from "../../kernel/errors.ts";
import {
  type DocumentText,
  type OcrOptions,
  READ_LIMITS,
  type ReadLimits,
} from "./document-text.ts";
import { readerEntry, startReader } from "./reader-process.ts";

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
  /** Program of the child process, for tests. */
  readonly entry?: string;
}

/**
 * Reads one document in a child process of its own, so that a hostile file can end nothing but that process.
 *
 * @throws AppError permanent: `document_encrypted`, `document_corrupt`, `document_unsupported_type`,
 * `document_legacy_format`, `document_too_large`, `document_too_many_pages`, `document_zip_bomb`, `document_no_text`,
 * `document_ocr_unavailable` · transient: `document_resource_limit` (the child was killed for time or memory, or ended
 * without a result; worth one more attempt, not more); the reason of the signal.
 */
export async function readDocument(request: ReadDocumentRequest): Promise<DocumentText> {
  const limits = { ...READ_LIMITS, ...request.limits };
  if (request.signal.aborted) throw abortError(request.signal);
  await checkFile(request.path, limits);
  const reader = startReader(request.entry ?? readerEntry(), limits);
  try {
    return await callWithin(
      { signal: request.signal, timeoutMs: limits.durationMsMax, timedOut: tookTooLong },
      () =>
        reader.read({
          path: request.path,
          name: request.name,
          declaredType: request.declaredType,
          limits,
          ocr: request.ocr,
        }),
    );
  } finally {
    await reader.kill();
  }
}

const tookTooLong = () => transient("document_resource_limit", { reason: "time" });

async function checkFile(path: string, { fileBytesMax }: ReadLimits): Promise<void> {
  const { size } = await stat(path);
  if (size > fileBytesMax)
    throw permanent("document_too_large", { limit: "file_bytes", max: fileBytesMax });
  if (size === 0) throw permanent("document_no_text", { reason: "empty" });
}
