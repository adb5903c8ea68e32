import { type AppError, permanent, toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { DocumentMessage } from "./document-message.ts";
import { faultOfObject } from "./object-path.ts";
import type { ObjectRef } from "./stored-object.ts";

export type Priority = "urgent" | "high" | "normal" | "low";

/** Who asked, and why, for the audit log. */
export interface Asker {
  readonly actor: string;
  readonly reason: string | null;
  readonly requestId: string;
}

export interface Registration extends ObjectRef {
  /** Undefined: a new one, or the one that the object is already. */
  readonly id: string | undefined;
  readonly workspaceId: string;
  readonly name: string;
  readonly mime: string | undefined;
  readonly priority: Priority;
}

export type Refused = "gone" | "mismatch" | "unknown";

/** Changes that people and the product ask for. Each is noted in the audit log, in the same transaction. */
export interface DocumentRequests {
  register(
    registration: Registration,
    asker: Asker,
    signal: AbortSignal,
  ): Promise<
    | { readonly status: "queued" | "already"; readonly id: string; readonly isNew: boolean }
    | { readonly status: "conflict" | "gone" }
  >;
  request(
    message: DocumentMessage,
    options: { readonly isForced: boolean; readonly asker: Asker | null },
    signal: AbortSignal,
  ): Promise<
    | { readonly status: "queued" | "already"; readonly id: string; readonly priority: Priority }
    | { readonly status: Refused | "processing" }
  >;
  cancel(
    message: DocumentMessage,
    asker: Asker,
    signal: AbortSignal,
  ): Promise<
    | { readonly status: "cancelled"; readonly workItem: string | null }
    | { readonly status: "over"; readonly state: string }
    | { readonly status: Refused }
  >;
  delete(
    message: DocumentMessage,
    asker: Asker,
    signal: AbortSignal,
  ): Promise<
    { readonly status: "deleted"; readonly workItem: string | null } | { readonly status: Refused }
  >;
  noteItem(message: DocumentMessage, itemId: string, signal: AbortSignal): Promise<void>;
}

/** The work queue, as far as documents care. */
export interface DocumentQueue {
  /** A document that has a live item keeps it. */
  enqueue(
    message: DocumentMessage,
    options: { readonly priority: Priority; readonly requestedBy: string },
    signal: AbortSignal,
  ): Promise<{ readonly id: string }>;
  /** One that is over is left alone. */
  cancel(itemId: string, asker: Asker, signal: AbortSignal): Promise<void>;
}

export interface RequestDeps {
  readonly documentRequests: DocumentRequests;
  readonly documentQueue: DocumentQueue;
  readonly documentsConfig: { readonly containers: readonly string[] };
}

export interface Requested {
  readonly id: string;
  readonly isNew: boolean;
  /** Undefined when the queue could not be reached: the sweep hands the document over within minutes. */
  readonly workItem: string | undefined;
}

/**
 * Registers a stored object and asks for it to be processed. Safe to repeat: an object is one document, and a document
 * has one live work item. The row waits before the item is made, so that no crash in between loses it.
 *
 * Errors: `request_invalid` · `document_exists` · `document_gone`
 */
export async function registerDocument(
  deps: RequestDeps,
  registration: Registration,
  asker: Asker,
  run: Run,
): Promise<Requested> {
  const { workspaceId, priority } = registration;
  const fault = faultOfObject(registration, workspaceId, deps.documentsConfig.containers);
  if (fault !== undefined) throw permanent("request_invalid", { faults: [fault] });
  const answer = await deps.documentRequests.register(registration, asker, run.signal);
  if (!("id" in answer))
    throw permanent(answer.status === "gone" ? "document_gone" : "document_exists");
  const message = { documentId: answer.id, workspaceId };
  const workItem = await enqueue(deps, message, { priority, requestedBy: asker.actor }, run);
  return { id: answer.id, isNew: answer.isNew, workItem };
}

/**
 * Asks for a document to be processed, with force also when nothing changed.
 *
 * Errors: `document_unknown` · `document_gone` · `document_processing`, when it is forced while a worker has it
 */
export async function requestDocument(
  deps: RequestDeps,
  message: DocumentMessage,
  options: { readonly isForced: boolean; readonly asker: Asker },
  run: Run,
): Promise<Requested> {
  const answer = await deps.documentRequests.request(message, options, run.signal);
  if (answer.status === "processing") throw permanent("document_processing");
  if (!("id" in answer)) throw refusal(answer.status, message, run);
  const { priority } = answer;
  const requestedBy = options.asker.actor;
  const workItem = await enqueue(deps, message, { priority, requestedBy }, run);
  return { id: answer.id, isNew: false, workItem };
}

/** Stops the processing; what is served stays. Errors: `document_unknown` · `document_gone` · `document_not_running` */
export async function cancelDocument(
  deps: RequestDeps,
  message: DocumentMessage,
  asker: Asker,
  run: Run,
): Promise<void> {
  const answer = await deps.documentRequests.cancel(message, asker, run.signal);
  if (answer.status === "over") throw permanent("document_not_running", { state: answer.state });
  if (answer.status !== "cancelled") throw refusal(answer.status, message, run);
  await stopWork(deps, answer.workItem, asker, run);
}

/** Removes a document and its chunks. One that was deleted before stays so. Errors: `document_unknown` */
export async function deleteDocument(
  deps: RequestDeps,
  message: DocumentMessage,
  asker: Asker,
  run: Run,
): Promise<void> {
  const answer = await deps.documentRequests.delete(message, asker, run.signal);
  if (answer.status === "gone") return;
  if (answer.status !== "deleted") throw refusal(answer.status, message, run);
  await stopWork(deps, answer.workItem, asker, run);
}

/** Another workspace's document looks like none; that somebody tried is a security event. */
export function refusal(
  status: Refused,
  { documentId, workspaceId }: DocumentMessage,
  run: Run,
): AppError {
  if (status === "gone") return permanent("document_gone");
  if (status === "mismatch")
    run.log.warn("document_workspace_mismatch", { documentId, workspaceId });
  return permanent("document_unknown");
}

async function enqueue(
  { documentQueue, documentRequests }: RequestDeps,
  message: DocumentMessage,
  options: { readonly priority: Priority; readonly requestedBy: string },
  run: Run,
): Promise<string | undefined> {
  try {
    const { id } = await documentQueue.enqueue(message, options, run.signal);
    await documentRequests.noteItem(message, id, run.signal);
    return id;
  } catch (error) {
    // The request stands: its row waits, and the sweep finds it.
    const { code } = toFailure(error);
    run.log.warn("document_not_enqueued", { documentId: message.documentId, code });
    return undefined;
  }
}

/** Without it the worker finds out at its next write, so a failure here is worth a line, not an error. */
async function stopWork(
  { documentQueue }: RequestDeps,
  workItem: string | null,
  asker: Asker,
  run: Run,
): Promise<void> {
  if (workItem === null) return;
  try {
    await documentQueue.cancel(workItem, asker, run.signal);
  } catch (error) {
    run.log.warn("document_work_not_cancelled", { itemId: workItem, code: toFailure(error).code });
  }
}
