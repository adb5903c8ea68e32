import { DocumentMessage } from "./document-message.ts";

/** Documents of one workspace that are processed at once: one upload of thousands leaves room for others. */
const RUNNING_PER_WORKSPACE_MAX = 3;

/** What everybody knows about the work on documents. Other producers may send `{documentId, workspaceId}`. */
export const DOCUMENT_SPEC = {
  kind: "document",
  queue: "documents",
  versions: { 1: DocumentMessage },
  maxAttempts: 8,
  leaseMs: 60_000,
  timeoutMs: 420_000,
  runningPerTenantMax: RUNNING_PER_WORKSPACE_MAX,
  adopt: {
    tenantOf: ({ workspaceId }: DocumentMessage) => workspaceId,
    dedupeKeyOf: ({ documentId }: DocumentMessage) => documentId,
  },
};
