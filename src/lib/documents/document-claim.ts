import type { Warning } from "./block.ts";
import type { Chunk } from "./chunk.ts";
import type { ObjectRef } from "./stored-object.ts";

/** Under what name a worker writes: the work item, and its fence. */
export interface Holder {
  readonly documentId: string;
  readonly workspaceId: string;
  readonly itemId: string;
  readonly fence: number;
}

/** For display, beside the status. */
export type Stage = "fetch" | "read" | "chunk" | "embed" | "store";

/** What a worker that won the document knows about it. */
export interface ClaimedDocument extends ObjectRef {
  readonly status: "claimed";
  /** Version of the chunks it stages. */
  readonly version: number;
  readonly name: string;
  readonly mime: string | null;
  /** Of the active version. */
  readonly sha256: string | null;
  readonly pipelineKey: string | null;
  readonly hasActive: boolean;
  /** Somebody asked to process it although nothing changed. */
  readonly isForced: boolean;
  /** Attempts in a row that did not find the object. */
  readonly absences: number;
  /** Of the last failed attempt. */
  readonly errorCode: string | null;
}

export type ClaimAnswer =
  | ClaimedDocument
  | {
      readonly status: "busy" | "stale" | "cancelled" | "gone" | "mismatch" | "unknown";
    };

/** Whether a write was done: anything but ok says why this worker may write no more. */
export type Hold = "ok" | "lost" | "cancelled" | "deleted";

export interface StagedChunk extends Omit<Chunk, "embedText"> {
  /** null: found by its words only. */
  readonly vector: Float32Array | null;
  /** Take the vector of the same text from what is stored. */
  readonly copy: boolean;
}

export interface StagedBatch {
  readonly model: string;
  readonly chunks: readonly StagedChunk[];
  /** Chunks that are staged after this batch, and of the document. */
  readonly done: number;
  readonly total: number;
}

/** What is known of a document when it is complete. */
export interface DocumentFacts {
  readonly sha256: string;
  readonly bytes: number;
  readonly pipelineKey: string;
  readonly type: string;
  readonly language: string;
  readonly pages: number | null;
  readonly warnings: readonly Warning[];
}

export interface DocumentFailure {
  readonly state: "retrying" | "failed" | "unsupported" | "missing";
  readonly code: string;
  /** For the owner of the document, at most 500 characters; never content. */
  readonly text: string;
  readonly isAbsent: boolean;
}

/** Chunks of one call: hosted databases give a statement 8 s. */
export const STAGE_ROWS_MAX = 64;

/** The only way to write while processing; each write is refused once somebody else has the document. */
export interface DocumentWork {
  /** Wins the document, or takes it over from a worker that died. */
  claim(holder: Holder, signal: AbortSignal): Promise<ClaimAnswer>;
  touch(holder: Holder, stage: Stage, signal: AbortSignal): Promise<Hold>;
  /** Hashes of texts that have a vector of this model already. */
  known(holder: Holder, model: string, signal: AbortSignal): Promise<ReadonlySet<string>>;
  /** A repeated batch changes nothing. */
  stage(holder: Holder, batch: StagedBatch, signal: AbortSignal): Promise<Hold>;
  /** Serves the staged version from now on. */
  finish(
    holder: Holder,
    expected: number,
    facts: DocumentFacts,
    signal: AbortSignal,
  ): Promise<Hold>;
  /** Nothing changed: the active version stays. */
  keep(holder: Holder, signal: AbortSignal): Promise<Hold>;
}

/** How an attempt ends that did not finish. */
export interface DocumentEndings {
  fail(holder: Holder, failure: DocumentFailure, signal: AbortSignal): Promise<Hold>;
  /** Interrupted: no failure is counted. */
  release(holder: Holder, signal: AbortSignal): Promise<Hold>;
  /** Its work item ended without success. */
  settle(
    message: { readonly documentId: string; readonly workspaceId: string },
    ending: {
      readonly itemId: string;
      readonly state: "dead" | "cancelled";
      readonly reason: string;
    },
    signal: AbortSignal,
  ): Promise<void>;
}
