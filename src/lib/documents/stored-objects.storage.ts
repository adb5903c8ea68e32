import type { BlobServiceClient } from "@azure/storage-blob";
import { callWithin } from "../kernel/deadline.ts";
import { type AppError, permanent, transient } from "../kernel/errors.ts";
import { retryAfterMs } from "../kernel/retry.ts";
import type { StoredObject } from "./stored-object.ts";

const OPEN_TIMEOUT_MS = 30_000;
/** A connection that breaks in the middle is taken up where it broke. */
const READ_AGAIN = { maxRetryRequests: 3 };

/** Objects in the containers of a storage account. Unlike our own blobs, their paths are whatever people call files. */
export function azureObjects(connectionString: string) {
  let service: Promise<BlobServiceClient> | undefined;
  return {
    open: async (
      { container, path }: { readonly container: string; readonly path: string },
      signal: AbortSignal,
    ): Promise<StoredObject | undefined> => {
      service ??= openService(connectionString);
      const blob = (await service).getContainerClient(container).getBlobClient(path);
      const timedOut = () => transient("blob_unavailable", { code: "TIMEOUT" });
      // The signal of the run, not of the call: the body is read after the call is over.
      const reply = await callWithin({ signal, timeoutMs: OPEN_TIMEOUT_MS, timedOut }, () =>
        blob.download(0, undefined, { ...READ_AGAIN, abortSignal: signal }).catch(orMissing),
      );
      if (reply?.readableStreamBody === undefined) return undefined;
      return { bytes: reply.contentLength, chunks: chunksOf(reply.readableStreamBody) };
    },
  };
}

/** A string that cannot be read is our setting's fault; the error that says so quotes it. */
async function openService(connectionString: string): Promise<BlobServiceClient> {
  const { BlobServiceClient } = await import("@azure/storage-blob");
  const retryOptions = {
    maxTries: 3,
    retryDelayInMs: 100,
    maxRetryDelayInMs: 1000,
    tryTimeoutInMs: OPEN_TIMEOUT_MS,
  };
  try {
    return BlobServiceClient.fromConnectionString(connectionString, { retryOptions });
  } catch {
    const reason = "is not a storage connection string";
    throw permanent("config_invalid", { field: "AzureWebJobsStorage", reason });
  }
}

async function* chunksOf(body: NodeJS.ReadableStream): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
  } catch (error) {
    throw storageError(error);
  } finally {
    if ("destroy" in body && typeof body.destroy === "function") body.destroy();
  }
}

interface ServiceError {
  readonly statusCode?: number;
  readonly code?: string;
  readonly response?: { readonly headers: { get(name: string): string | undefined } };
}

function orMissing(error: unknown): undefined {
  const { statusCode } = (error ?? {}) as ServiceError;
  if (statusCode === 404) return undefined;
  throw storageError(error);
}

/** The error itself does not travel: it holds the request with its signature, and the path. */
function storageError(error: unknown): AppError {
  const { statusCode, code, response } = (error ?? {}) as ServiceError;
  const facts = { storage: "azure", status: statusCode, code };
  const isTransient =
    statusCode === undefined || statusCode === 408 || statusCode === 429 || statusCode >= 500;
  if (!isTransient) return permanent("blob_refused", facts);
  const waitMs = response === undefined ? undefined : retryAfterMs(response.headers);
  return transient("blob_unavailable", { ...facts, retryAfterMs: waitMs });
}
