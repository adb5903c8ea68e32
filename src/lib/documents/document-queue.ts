import type { DocumentQueue, Priority } from "./document-requests.ts";
import { DOCUMENT_SPEC } from "./document-spec.ts";

/** The work queue as its feature offers it; a wake-up is what it wants to be sent after a change. */
export interface QueueOfWork<Wakeups> {
  readonly workQueue: {
    enqueue(
      kind: string,
      order: DocumentOrder,
      signal: AbortSignal,
    ): Promise<{ readonly id: string }>;
  };
  readonly workOffice: {
    cancel(
      itemId: string,
      decision: { readonly who: string; readonly reason: string },
      signal: AbortSignal,
    ): Promise<{ readonly send: Wakeups } | { readonly outcome: "unknown" }>;
  };
  readonly workSender: { send(wakeups: Wakeups, signal: AbortSignal): Promise<unknown> };
}

interface DocumentOrder {
  readonly payload: unknown;
  readonly tenant: string;
  readonly requestedBy: string;
  readonly priority: Priority;
  readonly dedupeKey: string;
}

/** A document is one live item, whoever asks for it: its tenant is the workspace, its dedupe key the document. */
export const documentQueueOf = <Wakeups>({
  workQueue,
  workOffice,
  workSender,
}: QueueOfWork<Wakeups>): DocumentQueue => ({
  enqueue: (message, { priority, requestedBy }, signal) => {
    const { documentId, workspaceId } = message;
    const whose = { tenant: workspaceId, dedupeKey: documentId };
    const order = { payload: message, requestedBy, priority, ...whose };
    return workQueue.enqueue(DOCUMENT_SPEC.kind, order, signal);
  },

  cancel: async (itemId, { actor, reason }, signal) => {
    const decision = { who: actor, reason: reason ?? "the document was deleted" };
    const reply = await workOffice.cancel(itemId, decision, signal);
    if ("send" in reply) await workSender.send(reply.send, signal);
  },
});
