import type { ErrorKind } from "./errors.ts";

/** What a code means to the runner and to an HTTP caller. `status` is the HTTP status of a response that carries it. */
export interface ErrorCodeRow {
  readonly kind: ErrorKind;
  readonly status: number;
  /** The problem title: stable, short, without data. */
  readonly title: string;
}

const row = (kind: ErrorKind, status: number, title: string): ErrorCodeRow => ({
  kind,
  status,
  title,
});

/**
 * Every code this service can answer or log. A code is public interface: it is never renamed. Each has a row in
 * `docs/reference/errors.md` with what the operator does; a test compares the two.
 */
export const ERROR_CODES = {
  unclassified: row("transient", 503, "The service could not finish the request"),
  invariant_broken: row("bug", 500, "An internal invariant does not hold"),
  config_invalid: row("permanent", 500, "The configuration is not valid"),
  deadline_exceeded: row("transient", 503, "A deadline passed before the work was done"),

  request_invalid: row("permanent", 400, "The request is not valid"),
  body_not_json: row("permanent", 400, "The body is not valid JSON"),
  body_too_large: row("permanent", 413, "The body is too large"),
  media_type_unsupported: row("permanent", 415, "The content type is not supported"),
  route_unknown: row("permanent", 404, "No such route"),
  method_not_allowed: row("permanent", 405, "The route does not know this method"),
  credentials_missing: row("permanent", 401, "Credentials are missing or not valid"),
  role_missing: row("permanent", 403, "The key does not have the role this needs"),
  scope_missing: row("permanent", 403, "The key is not for this part of the API"),
  identity_unavailable: row(
    "transient",
    503,
    "The signing keys of the identity provider cannot be read",
  ),

  redis_unavailable: row("transient", 503, "Redis does not answer"),
  redis_refused: row("permanent", 502, "Redis refused a command"),
  redis_reply_unexpected: row("bug", 500, "Redis answered in an unexpected shape"),
  database_unavailable: row("transient", 503, "The database does not answer"),
  database_refused: row("permanent", 502, "The database refused a call"),
  database_reply_unexpected: row("bug", 500, "The database answered in an unexpected shape"),
  queue_unavailable: row("transient", 503, "The storage queue does not answer"),
  queue_refused: row("permanent", 502, "The storage queue refused a call"),
  blob_unavailable: row("transient", 503, "The blob storage does not answer"),
  blob_refused: row("permanent", 502, "The blob storage refused a call"),

  message_invalid: row("permanent", 400, "A queue message does not have a known shape"),

  usage_tracking_disabled: row("permanent", 503, "Usage tracking is switched off"),
  usage_record_refused: row("permanent", 400, "Redis refused the usage record"),
  usage_replica_stale: row("transient", 503, "A read came from a replica that lags behind"),
  usage_quarantine_unknown: row("permanent", 404, "No such quarantined entry"),
  usage_quarantine_not_bookable: row("permanent", 409, "The quarantined entry cannot be booked"),
  usage_legacy_not_apart: row("permanent", 404, "Both sides of the tenant agree"),
  usage_drift_unknown: row("permanent", 404, "No such difference"),
  usage_drift_not_held: row("permanent", 409, "The difference does not wait for a decision"),
  usage_drift_repair_refused: row("permanent", 409, "The difference cannot be repaired that way"),
  usage_run_unknown: row("permanent", 404, "No such reconciliation run"),
  usage_period_running: row("permanent", 409, "The month is not over"),
  usage_audit_unknown: row("permanent", 404, "No such audit"),
  alert_unknown: row("permanent", 404, "No such alert"),
  alert_resolved: row("permanent", 409, "The alert is over already"),
  document_unknown: row("permanent", 404, "No such document"),
  document_gone: row("permanent", 410, "The document was deleted"),
  document_exists: row("permanent", 409, "The id or the object belongs to another document"),
  document_workspace_mismatch: row("permanent", 404, "The document is of another workspace"),
  document_busy: row("transient", 503, "Another worker has the document"),
  document_taken: row("transient", 503, "The document was taken from this worker"),
  document_processing: row("permanent", 409, "The document is being processed"),
  document_not_running: row("permanent", 409, "Nothing is processed that could be cancelled"),
  document_missing: row("permanent", 404, "The stored file was not found"),
  document_object_refused: row("permanent", 400, "The stored object may not be read"),
  export_taken_over: row("permanent", 409, "Another run went on with the export"),
  export_unknown: row("permanent", 404, "No such export, or it is not finished"),
  report_unknown: row("permanent", 404, "There is no report of that day"),
  job_unknown: row("permanent", 404, "No such job"),
  job_run_unknown: row("permanent", 404, "No such run"),
  job_run_ended: row("permanent", 409, "The run ended before"),
  job_busy: row("permanent", 409, "A run of this job works or waits"),
  job_timed_out: row("transient", 503, "The job did not end in its time"),
  job_cancelled: row("permanent", 409, "The run was cancelled"),
  job_lease_lost: row("transient", 503, "Another instance may work on the run"),
  graph_not_configured: row("permanent", 503, "Microsoft Graph is not configured"),

  document_encrypted: row("permanent", 422, "The document is protected by a password or a key"),
  document_corrupt: row("permanent", 422, "The document is damaged and cannot be opened"),
  document_unsupported_type: row("permanent", 415, "Documents of this type are not read"),
  document_legacy_format: row("permanent", 415, "The document has an old format that is not read"),
  document_too_large: row("permanent", 413, "The document is too large"),
  document_too_many_pages: row("permanent", 413, "The document has too many pages"),
  document_too_many_chunks: row("permanent", 413, "The document has too many parts"),
  document_zip_bomb: row("permanent", 422, "The document inflates beyond what is allowed"),
  document_no_text: row("permanent", 422, "The document holds no text"),
  document_resource_limit: row(
    "transient",
    503,
    "Reading the document took too much time or memory",
  ),
  document_ocr_unavailable: row("permanent", 503, "Recognition of scanned pages is not installed"),
  work_kind_unknown: row("permanent", 404, "No such kind of work"),
  work_version_unknown: row("permanent", 400, "No such version of this kind of work"),
  work_payload_invalid: row("permanent", 400, "The payload does not fit its kind and version"),
  work_batch_too_large: row("permanent", 413, "Too many items at once"),
  work_item_unknown: row("permanent", 404, "No such work item"),
  work_item_ended: row("permanent", 409, "The work item is over already"),
  work_cancelled: row("permanent", 409, "The work item was cancelled"),
  work_poison: row("permanent", 500, "The work item took its workers down"),
  work_stopping: row("transient", 503, "The worker is stopping"),
  work_lease_lost: row("transient", 503, "Another worker may have taken the work item"),
  work_replay_unknown: row("permanent", 404, "No such replay"),

  embedder_unavailable: row("transient", 503, "The service of embeddings does not answer"),
  embedder_refused: row("permanent", 502, "The service of embeddings refused a call"),
} as const satisfies Record<string, ErrorCodeRow>;

export type ErrorCode = keyof typeof ERROR_CODES;
