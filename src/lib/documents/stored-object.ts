import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { permanent, transient } from "../kernel/errors.ts";

/** Where the content of a document lies. */
export interface ObjectRef {
  readonly storage: "supabase" | "azure";
  /** Bucket or container. */
  readonly container: string;
  readonly path: string;
}

export interface StoredObject {
  /** As declared; what comes is counted all the same. */
  readonly bytes: number | undefined;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * Reads objects that the product stored.
 *
 * Errors: `blob_unavailable` (transient) · `blob_refused` (permanent) · `deadline_exceeded`.
 */
export interface StoredObjects {
  /** Undefined when it is not there. Whoever asks reads `chunks` to their end or leaves its loop. */
  open(ref: ObjectRef, signal: AbortSignal): Promise<StoredObject | undefined>;
}

export interface FetchedObject {
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

/**
 * Writes an object to a file, without holding it in memory.
 *
 * @throws AppError `document_missing` (transient; the caller knows how often to try again) · `document_too_large` as
 * soon as it is known.
 */
export async function fetchObject(
  objects: StoredObjects,
  ref: ObjectRef,
  file: { readonly path: string; readonly bytesMax: number },
  signal: AbortSignal,
): Promise<FetchedObject> {
  const object = await objects.open(ref, signal);
  if (object === undefined) throw transient("document_missing", { storage: ref.storage });
  refuseTooLarge(object.bytes ?? 0, file.bytesMax);
  const target = await open(file.path, "w");
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for await (const chunk of object.chunks) {
      bytes += chunk.length;
      refuseTooLarge(bytes, file.bytesMax);
      hash.update(chunk);
      await target.write(chunk);
    }
  } finally {
    await target.close();
  }
  refuseTruncated(bytes, object.bytes);
  return { bytes, sha256: hash.digest("hex") };
}

function refuseTooLarge(bytes: number, max: number): void {
  if (bytes > max) throw permanent("document_too_large", { limit: "file_bytes", max });
}

/** A connection that ends early looks like a short document. */
function refuseTruncated(bytes: number, declared: number | undefined): void {
  if (declared !== undefined && bytes !== declared)
    throw transient("blob_unavailable", { code: "TRUNCATED", bytes, declared });
}
