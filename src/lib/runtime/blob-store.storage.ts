import { createHash, randomBytes } from "node:crypto";
import type { BlobServiceClient, ContainerClient } from "@azure/storage-blob";
import { limitCalls, type PeerCalls } from "../kernel/deadline.ts";
import { type AppError, invariant, permanent, transient } from "../kernel/errors.ts";
import { retryAfterMs } from "../kernel/retry.ts";

/**
 * Blobs of one container, streamed: nobody holds a whole blob in memory. The container is created with the first write
 * that misses it; until then nothing is in it. A path is `folder/name`, 1 to 1000 characters of `A-Za-z0-9._=-` and `/`.
 *
 * Errors: `blob_unavailable` (transient) · `blob_refused` (permanent), with `details.path`, `status` and the `code` of the
 * service, such as BlobNotFound · `deadline_exceeded`. What the content throws is thrown as it is.
 */
export interface BlobStore {
  /**
   * Replaces the blob by what `content` yields. Readers see the old one until the last part is committed; a write that
   * ends early changes nothing. Of two writers at once at least one succeeds, whole; the other may fail as transient,
   * because a commit drops the parts that somebody else has staged.
   */
  put(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: BlobOptions,
    signal: AbortSignal,
  ): Promise<WrittenBlob>;
  /** Undefined when there is none. Whoever asks reads `chunks` to their end or leaves its loop: both free the connection. */
  get(path: string, signal: AbortSignal): Promise<BlobContent | undefined>;
  /** @returns whether there was one. */
  delete(path: string, signal: AbortSignal): Promise<boolean>;
  /** Blobs whose paths begin with `prefix`, in the order of their paths; `next` is `after` of the following page. */
  list(
    prefix: string,
    page: { readonly after?: string | undefined; readonly limit: number },
    signal: AbortSignal,
  ): Promise<BlobPage>;
  /**
   * An address under which anybody may read the blob, and nothing else, until it expires. Whether there is one is not
   * asked. Permanent `blob_refused` with code NO_KEY when the connection string holds no key to sign with.
   */
  link(path: string, expiresAt: number): Promise<string>;
}

export interface BlobOptions {
  readonly contentType: string;
  readonly contentEncoding?: string | undefined;
}

export interface WrittenBlob {
  readonly bytes: number;
  /** Of the bytes as stored, in hex. */
  readonly sha256: string;
}

export interface BlobContent {
  readonly bytes: number;
  readonly contentType: string;
  readonly contentEncoding: string | undefined;
  readonly chunks: AsyncIterable<Uint8Array>;
}

export interface BlobInfo {
  readonly path: string;
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly modifiedAt: number;
}

export interface BlobPage {
  readonly blobs: readonly BlobInfo[];
  readonly next: string | undefined;
}

export interface BlobStoreOptions {
  readonly connectionString: string;
  readonly container: string;
  /** Longest time of one request, or of waiting for the next chunk; a whole blob may take longer. */
  readonly timeoutMs?: number | undefined;
  /** Bytes of one part; one is in memory while the next is filled. */
  readonly partBytes?: number | undefined;
}

const BLOB_TIMEOUT_MS = 30_000;
const CALLS_IN_FLIGHT_MAX = 200;
const PART_BYTES = 4 * 1024 * 1024;
/** The service commits no more. */
const PARTS_MAX = 50_000;
const PAGE_MAX = 5000;
/** A connection that breaks in the middle of a blob is taken up where it broke. */
const READ_AGAIN = { maxRetryRequests: 3 };
const PATH = /^(?!\/)(?!.*(\/\/|\.\.))[\w.=/-]{1,1000}$/;

export function createBlobStore(options: BlobStoreOptions): BlobStore {
  const { timeoutMs = BLOB_TIMEOUT_MS, partBytes = PART_BYTES } = options;
  const unavailable = (code: string) => transient("blob_unavailable", { code });
  const calls = limitCalls({ timeoutMs, inFlightMax: CALLS_IN_FLIGHT_MAX, unavailable });
  let service: Promise<ContainerClient> | undefined;

  const call: Call = (path, signal, work) =>
    calls.run(signal, async (abortSignal) => {
      service ??= openContainer(options, timeoutMs);
      try {
        return await work(await service, abortSignal);
      } catch (error) {
        throw blobError(path, error);
      }
    });

  return {
    put: (path, content, blobOptions, signal) => {
      invariant(PATH.test(path), "a blob has a plain path");
      return putParts({ call, path, partBytes, signal }, content, blobOptions);
    },
    get: async (path, signal) => {
      invariant(PATH.test(path), "a blob has a plain path");
      const reply = await orNothing(
        call(path, signal, (container, abortSignal) => {
          // Not given the signal: its abort would also end the stream, which outlives this call.
          const reading = container.getBlobClient(path).download(0, undefined, READ_AGAIN);
          return unlessAborted(reading, abortSignal);
        }),
      );
      if (reply === undefined) return undefined;
      const { readableStreamBody, contentLength = 0, contentType = "", contentEncoding } = reply;
      invariant(readableStreamBody !== undefined, "a download has a body");
      const chunks = readChunks({ calls, path, signal }, readableStreamBody);
      return { bytes: contentLength, contentType, contentEncoding, chunks };
    },
    delete: async (path, signal) => {
      invariant(PATH.test(path), "a blob has a plain path");
      const removed = await orNothing(
        call(path, signal, async (container, abortSignal) => {
          await container.getBlobClient(path).delete({ abortSignal });
          return true;
        }),
      );
      return removed ?? false;
    },
    list: async (prefix, { after, limit }, signal) => {
      invariant(limit >= 1 && limit <= PAGE_MAX, "a page has 1 to 5000 blobs");
      const page = await orNothing(
        call(prefix, signal, async (container, abortSignal) => {
          const pages = container.listBlobsFlat({ prefix, abortSignal }).byPage({
            maxPageSize: limit,
            ...(after === undefined ? {} : { continuationToken: after }),
          });
          return (await pages.next()).value;
        }),
      );
      const items: readonly ListedBlob[] = page?.segment.blobItems ?? [];
      return { blobs: items.map(toInfo), next: page?.continuationToken || undefined };
    },
    link: async (path, expiresAt) => {
      invariant(PATH.test(path), "a blob has a plain path");
      service ??= openContainer(options, timeoutMs);
      return signLink(await service, path, expiresAt);
    },
  };
}

async function signLink(
  container: ContainerClient,
  path: string,
  expiresAt: number,
): Promise<string> {
  const { BlobSASPermissions } = await import("@azure/storage-blob");
  const permissions = BlobSASPermissions.parse("r");
  const until = { permissions, expiresOn: new Date(expiresAt) };
  return container
    .getBlobClient(path)
    .generateSasUrl(until)
    .catch(() => {
      throw permanent("blob_refused", { path, code: "NO_KEY" });
    });
}

type Call = <T>(
  path: string,
  signal: AbortSignal,
  work: (container: ContainerClient, signal: AbortSignal) => Promise<T>,
) => Promise<T>;

interface Writing {
  readonly call: Call;
  readonly path: string;
  readonly partBytes: number;
  readonly signal: AbortSignal;
}

/** Parts carry a random name: those of a writer that died cannot end up among ours. */
async function putParts(
  { call, path, partBytes, signal }: Writing,
  content: AsyncIterable<Uint8Array>,
  { contentType, contentEncoding }: BlobOptions,
): Promise<WrittenBlob> {
  const writer = randomBytes(8).toString("hex");
  const hash = createHash("sha256");
  const ids: string[] = [];
  let bytes = 0;
  for await (const part of inParts(content, partBytes)) {
    invariant(ids.length < PARTS_MAX, "a blob has at most 50,000 parts");
    const id = Buffer.from(`${writer}-${String(ids.length).padStart(5, "0")}`).toString("base64");
    await creatingContainer(call, path, signal, async (container, abortSignal) => {
      await container.getBlockBlobClient(path).stageBlock(id, part, part.length, { abortSignal });
    });
    hash.update(part);
    bytes += part.length;
    ids.push(id);
  }
  const blobContentEncoding = contentEncoding;
  const blobHTTPHeaders = {
    blobContentType: contentType,
    ...(blobContentEncoding === undefined ? {} : { blobContentEncoding }),
  };
  await creatingContainer(call, path, signal, async (container, abortSignal) => {
    const block = container.getBlockBlobClient(path);
    await block.commitBlockList(ids, { blobHTTPHeaders, abortSignal });
  });
  return { bytes, sha256: hash.digest("hex") };
}

/** Whole parts of `partBytes`, and what is left at the end. */
async function* inParts(content: AsyncIterable<Uint8Array>, partBytes: number) {
  let chunks: Uint8Array[] = [];
  let held = 0;
  for await (const chunk of content) {
    chunks.push(chunk);
    held += chunk.length;
    if (held < partBytes) continue;
    let rest = Buffer.concat(chunks);
    while (rest.length >= partBytes) {
      yield rest.subarray(0, partBytes);
      rest = rest.subarray(partBytes);
    }
    chunks = rest.length === 0 ? [] : [Buffer.from(rest)]; // a copy lets go of the part
    held = rest.length;
  }
  if (held > 0) yield Buffer.concat(chunks);
}

async function creatingContainer(
  call: Call,
  path: string,
  signal: AbortSignal,
  work: (container: ContainerClient, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  try {
    await call(path, signal, work);
  } catch (error) {
    if (!isMissing(error, "ContainerNotFound")) throw error;
    await call(path, signal, async (container, abortSignal) => {
      await container.createIfNotExists({ abortSignal });
    });
    await call(path, signal, work);
  }
}

interface Reading {
  readonly calls: PeerCalls;
  readonly path: string;
  readonly signal: AbortSignal;
}

/** Waits for every chunk with a deadline of its own. */
async function* readChunks(
  { calls, path, signal }: Reading,
  body: NodeJS.ReadableStream,
): AsyncIterable<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await calls.run(signal, () =>
        iterator.next().catch((error: unknown) => {
          throw blobError(path, error);
        }),
      );
      if (done === true) return;
      yield typeof value === "string" ? Buffer.from(value) : value;
    }
  } finally {
    destroy(body);
  }
}

/** The reply of a call that goes on by itself; its body is freed when nobody waits for it any more. */
async function unlessAborted<T extends { readableStreamBody?: NodeJS.ReadableStream }>(
  reading: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const reply = await reading;
  if (signal.aborted && reply.readableStreamBody !== undefined) destroy(reply.readableStreamBody);
  return reply;
}

function destroy(body: NodeJS.ReadableStream): void {
  if ("destroy" in body && typeof body.destroy === "function") body.destroy();
}

/** A string that cannot be read is our setting's fault; the error that says so quotes it. */
async function openContainer(
  { connectionString, container }: BlobStoreOptions,
  timeoutMs: number,
): Promise<ContainerClient> {
  const { BlobServiceClient } = await import("@azure/storage-blob");
  const retryOptions = {
    maxTries: 3,
    retryDelayInMs: 100,
    maxRetryDelayInMs: 1000,
    tryTimeoutInMs: timeoutMs,
  };
  let service: BlobServiceClient;
  try {
    service = BlobServiceClient.fromConnectionString(connectionString, { retryOptions });
  } catch {
    const reason = "is not a storage connection string";
    throw permanent("config_invalid", { field: "AzureWebJobsStorage", reason });
  }
  return service.getContainerClient(container);
}

interface ListedBlob {
  readonly name: string;
  readonly properties: { readonly contentLength?: number; readonly lastModified: Date };
}

const toInfo = ({ name, properties }: ListedBlob): BlobInfo => ({
  path: name,
  bytes: properties.contentLength ?? 0,
  modifiedAt: properties.lastModified.getTime(),
});

interface ServiceError {
  readonly statusCode?: number;
  readonly code?: string;
  readonly response?: { readonly headers: { get(name: string): string | undefined } };
}

/** The error itself does not travel: it holds the request with its signature. */
function blobError(path: string, error: unknown): AppError {
  const { statusCode, code, response } = (error ?? {}) as ServiceError;
  const facts = { path, status: statusCode, code };
  const isTransient =
    statusCode === undefined || statusCode === 408 || statusCode === 429 || statusCode >= 500;
  const isOvertaken = code === "InvalidBlockList"; // another writer committed in between
  if (!isTransient && !isOvertaken) return permanent("blob_refused", facts);
  const waitMs = response === undefined ? undefined : retryAfterMs(response.headers);
  return transient("blob_unavailable", { ...facts, retryAfterMs: waitMs });
}

const isMissing = (error: unknown, code: string): boolean =>
  error instanceof Error &&
  "details" in error &&
  (error.details as { code?: unknown } | undefined)?.code === code;

/** What is not there is no failure. */
async function orNothing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isMissing(error, "BlobNotFound") || isMissing(error, "ContainerNotFound")) return undefined;
    throw error;
  }
}
