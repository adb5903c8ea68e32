import { ERROR_CODES, type ErrorCode } from "./error-codes.ts";

/**
 * - `transient`: may work later; queues reschedule, HTTP answers 503 with Retry-After.
 * - `permanent`: never works for this input.
 * - `bug`: one of our invariants broke.
 */
export type ErrorKind = "transient" | "permanent" | "bug";

/** Loggable facts only: ids, counts, limits. Never tokens, addresses, subjects, bodies. */
export type ErrorDetails = Readonly<
  Record<string, string | number | boolean | null | undefined | readonly FieldFault[]>
>;

/** One field of an input that was refused, and why; `field` is a path such as `records[3].tokens`. */
export interface FieldFault {
  readonly field: string;
  readonly reason: string;
}

export class AppError extends Error {
  override readonly name = "AppError";
  readonly kind: ErrorKind;
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(
    kind: ErrorKind,
    code: ErrorCode,
    options: { details?: ErrorDetails; cause?: unknown; message?: string } = {},
  ) {
    const message = options.message ?? ERROR_CODES[code].title;
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.kind = kind;
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** May work later. `details.retryAfterMs` is handed to the caller when the peer sent one. */
export const transient = (code: ErrorCode, details?: ErrorDetails, cause?: unknown): AppError =>
  new AppError("transient", code, { details: details ?? {}, cause });

/** Never works for this input. */
export const permanent = (code: ErrorCode, details?: ErrorDetails, cause?: unknown): AppError =>
  new AppError("permanent", code, { details: details ?? {}, cause });

/** States what must hold; always on. A false condition is our bug, never the caller's. */
export function invariant(
  condition: boolean,
  what: string,
  code: ErrorCode = "invariant_broken",
): asserts condition {
  if (!condition) throw new AppError("bug", code, { details: { what } });
}

/** What the runner knows about an error, whatever was thrown. */
export interface Failure {
  readonly kind: ErrorKind;
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  readonly error: Error;
  /** The caller's doing (a 4xx), not ours. */
  readonly isCallers: boolean;
}

/** Unknown means transient: retries are bounded, lost work is not. */
export function toFailure(thrown: unknown): Failure {
  if (thrown instanceof AppError) {
    const { kind, code, details } = thrown;
    return { kind, code, details, error: thrown, isCallers: ERROR_CODES[code].status < 500 };
  }
  const error = thrown instanceof Error ? thrown : new Error(`thrown value: ${typeof thrown}`);
  return { kind: "transient", code: "unclassified", details: {}, error, isCallers: false };
}
