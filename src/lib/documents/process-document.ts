import { AppError, permanent, toFailure, transient } from "../kernel/errors.ts";
import type { ClaimAnswer, ClaimedDocument, DocumentEndings, Holder } from "./document-claim.ts";
import type { DocumentMessage } from "./document-message.ts";
import type { DocumentResult, DocumentRun } from "./document-run.ts";
import { type IngestDeps, ingestDocument } from "./ingest-document.ts";
import { planFailure } from "./plan-failure.ts";

export interface ProcessDeps extends IngestDeps {
  readonly documentEndings: DocumentEndings;
}

/** A message may come before the row it speaks of is committed. */
const UNKNOWN_ATTEMPTS_MAX = 3;
/** To store how an attempt ended, when its own time is over. */
const ENDING_DEADLINE_MS = 15_000;

/**
 * Turns a stored document into chunks that search finds. Safe to repeat, at any line: the claim makes one worker of
 * many, chunks are staged where nobody sees them, and one fenced call serves them.
 */
export async function processDocument(
  deps: ProcessDeps,
  message: DocumentMessage,
  run: DocumentRun,
): Promise<DocumentResult> {
  const holder = { ...message, itemId: run.itemId, fence: run.fence };
  const claim = await deps.documentWork.claim(holder, run.signal);
  if (claim.status !== "claimed") return refuse(claim.status, message, run);
  try {
    return await ingestDocument(deps, claim, holder, run);
  } catch (error) {
    return await endAttempt(deps.documentEndings, { error, claim, holder, run });
  }
}

function refuse(
  status: Exclude<ClaimAnswer["status"], "claimed">,
  { documentId, workspaceId }: DocumentMessage,
  run: DocumentRun,
): DocumentResult {
  switch (status) {
    case "cancelled":
    case "gone":
      return { outcome: status };
    case "busy":
      throw transient("document_busy", { documentId });
    case "stale":
      throw transient("document_taken", { documentId, hold: "lost" });
    case "mismatch":
      run.log.warn("document_workspace_mismatch", { documentId, workspaceId });
      throw permanent("document_workspace_mismatch", { documentId, workspaceId });
    case "unknown": {
      const isEarly = run.attempt < UNKNOWN_ATTEMPTS_MAX;
      throw (isEarly ? transient : permanent)("document_unknown", { documentId });
    }
  }
}

interface Attempt {
  readonly error: unknown;
  readonly claim: ClaimedDocument;
  readonly holder: Holder;
  readonly run: DocumentRun;
}

async function endAttempt(
  endings: DocumentEndings,
  { error, claim, holder, run }: Attempt,
): Promise<DocumentResult> {
  const taken = takenBy(error);
  if (taken === "cancelled" || taken === "deleted") return { outcome: taken };
  if (taken !== undefined) throw error;
  const signal = AbortSignal.timeout(ENDING_DEADLINE_MS);
  if (run.signal.aborted) {
    await orElse(error, endings.release(holder, signal));
    throw error;
  }
  const plan = planFailure(toFailure(error), claim);
  const hold = await orElse(plan.error, endings.fail(holder, plan.document, signal));
  if (hold === "cancelled" || hold === "deleted") return { outcome: hold };
  throw plan.error;
}

/** Why a write was refused, when that is what ended the attempt. */
const takenBy = (error: unknown): unknown =>
  error instanceof AppError && error.code === "document_taken" ? error.details["hold"] : undefined;

/** When the end cannot be stored either, the reason of the failure is what the queue hears; leases do the rest. */
async function orElse<T>(error: unknown, ending: Promise<T>): Promise<T> {
  try {
    return await ending;
  } catch {
    throw error;
  }
}
