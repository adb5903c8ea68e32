import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { DocumentMessage } from "./document-message.ts";
import type { DocumentQueue, Priority } from "./document-requests.ts";

export interface WaitingDocument extends DocumentMessage {
  readonly priority: Priority;
}

export interface DocumentSweeps {
  /** Documents that wait without anything happening; each is answered at most once in that time. */
  waiting(
    staleSeconds: number,
    limit: number,
    signal: AbortSignal,
  ): Promise<readonly WaitingDocument[]>;
  /** Forgets documents that were deleted before an instant; how many. */
  prune(before: number, limit: number, signal: AbortSignal): Promise<number>;
}

export interface SweepDeps {
  readonly clock: { now(): number };
  readonly documentSweeps: DocumentSweeps;
  readonly documentQueue: DocumentQueue;
}

/** Longer than any lease and any attempt. */
const STALE_SECONDS = 900;
const SWEEP_MAX = 200;
/** Late messages of a deleted document find out that it was, for as long as they may be on their way. */
const DELETED_KEPT_MS = 30 * 86_400_000;
const PRUNE_MAX = 1000;

/**
 * Hands documents over to the queue that wait without a work item, because their enqueueing failed or their item ended
 * without them; one with a live item keeps it. Safe to run twice.
 */
export async function sweepDocuments(
  deps: SweepDeps,
  run: Run,
): Promise<{ readonly swept: number; readonly failed: number; readonly pruned: number }> {
  const waiting = await deps.documentSweeps.waiting(STALE_SECONDS, SWEEP_MAX, run.signal);
  let failed = 0;
  for (const { priority, documentId, workspaceId } of waiting) {
    try {
      const message = { documentId, workspaceId };
      await deps.documentQueue.enqueue(message, { priority, requestedBy: "sweep" }, run.signal);
    } catch (error) {
      failed += 1; // found again in 15 minutes
      run.log.warn("document_not_enqueued", { documentId, code: toFailure(error).code });
    }
  }
  const before = deps.clock.now() - DELETED_KEPT_MS;
  const pruned = await deps.documentSweeps.prune(before, PRUNE_MAX, run.signal);
  const report = { swept: waiting.length - failed, failed, pruned };
  run.note(report);
  return report;
}
