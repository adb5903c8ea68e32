import type { DocumentMessage } from "./document-message.ts";
import type { DocumentResult, DocumentRun } from "./document-run.ts";
import { DOCUMENT_SPEC } from "./document-spec.ts";
import { type ProcessDeps, processDocument } from "./process-document.ts";

const SETTLE_DEADLINE_MS = 10_000;

/** The work on documents. Idempotency: the claim of the document, in the name of the item and its fence. */
export const documentKind = {
  ...DOCUMENT_SPEC,
  handle: (
    deps: ProcessDeps,
    message: DocumentMessage,
    run: DocumentRun,
  ): Promise<DocumentResult> => processDocument(deps, message, run),
  settle: (
    deps: ProcessDeps,
    message: DocumentMessage,
    ending: { itemId: string; state: "dead" | "cancelled"; reason: string },
  ): Promise<void> =>
    deps.documentEndings.settle(message, ending, AbortSignal.timeout(SETTLE_DEADLINE_MS)),
};
