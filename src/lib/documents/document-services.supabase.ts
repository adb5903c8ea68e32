import type { Rpc } from "../runtime/rpc.supabase.ts";
import { CHUNKER_VERSION } from "./chunk/chunker-version.ts";
import { documentIndex, documentReads } from "./document-reads.supabase.ts";
import { documentRequests, documentSweeps } from "./document-requests.supabase.ts";
import type { DocumentQueue } from "./document-requests.ts";
import { documentEndings, documentWork } from "./document-work.supabase.ts";
import type { Embedder } from "./embedder.ts";
import type { DivideBlocks, ReadFile } from "./ingest-document.ts";
import { readDocument } from "./read/read-document.ts";
import { supabaseObjects } from "./stored-objects.supabase.ts";
import { type ObjectStore, storedObjects } from "./stored-objects.ts";

/** Part of every pipeline key: it changes whenever the same file would give other blocks. */
const READER_VERSION = "blocks-v1";

export interface DocumentsConfig {
  /** Buckets and containers that documents may lie in. */
  readonly containers: readonly string[];
  /** Of one stored file. */
  readonly bytesMax: number;
}

export interface DocumentServicesOptions {
  readonly rpc: Rpc;
  readonly embedder: Embedder;
  readonly documentQueue: DocumentQueue;
  readonly documents: DocumentsConfig;
  readonly azure: ObjectStore;
  readonly supabase: { readonly url: string; readonly key: string };
}

/** What documents need of a process. */
export function documentServices(options: DocumentServicesOptions) {
  const { rpc, embedder, documentQueue, documents } = options;
  const stores = {
    azure: options.azure,
    supabase: supabaseObjects(options.supabase),
  };
  return {
    documentsConfig: documents,
    documentQueue,
    documentWork: documentWork(rpc),
    documentEndings: documentEndings(rpc),
    documentRequests: documentRequests(rpc),
    documentReads: documentReads(rpc),
    documentIndex: documentIndex(rpc),
    documentSweeps: documentSweeps(rpc),
    storedObjects: storedObjects(stores, documents.containers),
    readFile: readWithin(documents.bytesMax),
    chunksOf: divideBlocks,
    embedder,
    pipelineVersions: { reader: READER_VERSION, chunker: CHUNKER_VERSION },
  } as const;
}

/** The table of tokens takes 40 MB and a tenth of a second: only processes that divide documents load it. */
const divideBlocks: DivideBlocks = async (blocks) => {
  const { chunksOf } = await import("./chunk/chunk-blocks.ts");
  return chunksOf(blocks);
};

const readWithin =
  (fileBytesMax: number): ReadFile =>
  (file, signal) =>
    readDocument({ ...file, limits: { fileBytesMax }, signal });
