import { ERROR_CODES } from "../kernel/error-codes.ts";
import type { Failure, FieldFault } from "../kernel/errors.ts";

/** How long a caller waits before it tries again, when nobody knows better. */
const RETRY_AFTER_SECONDS = 5;

/** In the sentence for people; `errors` has all. */
const FAULTS_TOLD = 5;

/** RFC 9457. `code` is stable; `errors` names each refused field. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail?: string;
  readonly errors?: readonly FieldFault[];
  readonly runId: string;
}

/** A failure as problem details. Carries no cause and no stack: those are in the log line of the run. */
export function problemResponse(failure: Failure, runId: string): Response {
  const { status, title } = ERROR_CODES[failure.code];
  const problem: Problem = {
    type: `urn:worker-service:error:${failure.code}`,
    title,
    status,
    code: failure.code,
    ...publicDetails(failure),
    runId,
  };
  return new Response(JSON.stringify(problem), { status, headers: headersOf(failure, status) });
}

function publicDetails({ details }: Failure): Pick<Problem, "detail" | "errors"> {
  const { reason, faults } = details;
  const errors = Array.isArray(faults) ? (faults as readonly FieldFault[]) : undefined;
  const detail = typeof reason === "string" ? reason : errors && summaryOf(errors);
  return { ...(detail ? { detail } : {}), ...(errors ? { errors } : {}) };
}

function summaryOf(errors: readonly FieldFault[]): string {
  const told = errors.slice(0, FAULTS_TOLD).map(({ field, reason }) => `${field}: ${reason}`);
  const more = errors.length - told.length;
  return [...told, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

function headersOf({ details }: Failure, status: number): Record<string, string> {
  const { allow, retryAfterMs } = details;
  const seconds =
    typeof retryAfterMs === "number" ? Math.ceil(retryAfterMs / 1000) : RETRY_AFTER_SECONDS;
  return {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
    ...(status === 503 ? { "retry-after": String(seconds) } : {}),
    ...(status === 401 ? { "www-authenticate": 'Bearer realm="worker-service"' } : {}),
    ...(typeof allow === "string" ? { allow } : {}),
  };
}
