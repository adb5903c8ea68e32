/** Where a document is, finely. */
export const DOCUMENT_STATES = [
  "uploaded",
  "queued",
  "processing",
  "retrying",
  "ready",
  "ready_partial",
  "failed",
  "unsupported",
  "missing",
  "cancelled",
] as const;
export type DocumentState = (typeof DOCUMENT_STATES)[number];

/** What the product shows. */
export const DOCUMENT_STATUSES = ["PENDING", "PROCESSING", "READY", "FAILED", "MISSING"] as const;
export type DocumentStatus = (typeof DOCUMENT_STATUSES)[number];

const STATUS_OF: Readonly<Record<DocumentState, DocumentStatus>> = {
  uploaded: "PENDING",
  queued: "PENDING",
  retrying: "PENDING",
  processing: "PROCESSING",
  ready: "READY",
  ready_partial: "READY",
  failed: "FAILED",
  unsupported: "FAILED",
  cancelled: "FAILED",
  missing: "MISSING",
};

export const statusOf = (state: DocumentState): DocumentStatus => STATUS_OF[state];

export const statesOf = (status: DocumentStatus): DocumentState[] =>
  DOCUMENT_STATES.filter((state) => STATUS_OF[state] === status);
