import { AppError, type Failure } from "../kernel/errors.ts";
import type { ClaimedDocument, DocumentFailure } from "./document-claim.ts";

const MINUTE_MS = 60_000;

/** An upload may still be on its way: three more looks in about ten minutes. */
const ABSENCE_DELAYS_MS = [MINUTE_MS, 3 * MINUTE_MS, 5 * MINUTE_MS];
/** A wrong key or deployment is nobody's document: tried again slowly until an operator has repaired it. */
const CONFIGURATION_DELAY_MS = 30 * MINUTE_MS;

const UNSUPPORTED: ReadonlySet<string> = new Set([
  "document_unsupported_type",
  "document_legacy_format",
]);
const CONFIGURATION: ReadonlySet<string> = new Set([
  "embedder_refused",
  "document_ocr_unavailable",
]);

export interface PlannedFailure {
  /** What its row says from now on. */
  readonly document: DocumentFailure;
  /** What the queue hears: transient comes again. */
  readonly error: AppError;
}

/** What a failed attempt means for a document. `before` is its state at the beginning of the attempt. */
export function planFailure(
  failure: Failure,
  before: Pick<ClaimedDocument, "absences" | "errorCode">,
): PlannedFailure {
  const { code } = failure;
  if (code === "document_missing") return planAbsence(failure, before.absences);
  if (CONFIGURATION.has(code)) return again(failure, CONFIGURATION_DELAY_MS);
  if (UNSUPPORTED.has(code)) return final(failure, "unsupported");
  // Memory and time may have been scarce by chance, once.
  const isRepeated = code === "document_resource_limit" && before.errorCode === code;
  return failure.kind === "transient" && !isRepeated ? again(failure) : final(failure, "failed");
}

function planAbsence(failure: Failure, absences: number): PlannedFailure {
  const delayMs = ABSENCE_DELAYS_MS[absences];
  return delayMs === undefined ? final(failure, "missing") : again(failure, delayMs);
}

const again = (failure: Failure, retryAfterMs?: number): PlannedFailure => ({
  document: documentFailure(failure, "retrying"),
  error: asError(failure, "transient", retryAfterMs === undefined ? {} : { retryAfterMs }),
});

const final = (failure: Failure, state: "failed" | "unsupported" | "missing"): PlannedFailure => ({
  document: documentFailure(failure, state),
  error: asError(failure, failure.kind === "bug" ? "bug" : "permanent", {}),
});

const documentFailure = (
  { code, error }: Failure,
  state: DocumentFailure["state"],
): DocumentFailure => ({
  state,
  code,
  // The text of a foreign error may hold anything.
  text: error instanceof AppError ? error.message : "The document could not be processed",
  isAbsent: code === "document_missing",
});

const asError = (
  { code, details, error }: Failure,
  kind: AppError["kind"],
  more: AppError["details"],
): AppError => new AppError(kind, code, { details: { ...details, ...more }, cause: error });
