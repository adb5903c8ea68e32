import { type AppError, type ErrorDetails, permanent, transient } from "../kernel/errors.ts";

/** What PostgREST, or the client in its name, said about a failed call. */
export interface RpcFailure {
  readonly fn: string;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  readonly error: {
    readonly message?: string;
    readonly details?: string | null;
    readonly code?: string;
  };
  readonly retryAfterMs?: number | undefined;
}

/**
 * Only the stable parts travel: Postgres puts keys and whole rows into message, details and hint, so of those nothing
 * but the name of a constraint, and a message that is itself a code, as our functions raise them.
 */
export function rpcError({ fn, status, error, retryAfterMs }: RpcFailure): AppError {
  const { code = "", message = "", details } = error;
  const facts: ErrorDetails = {
    fn,
    status,
    ...(code === "" ? {} : { sqlstate: code }),
    ...present("constraint", /constraint "(\w{1,63})"/.exec(message)?.[1]),
    ...present("reason", /^[a-z][a-z0-9_]{2,62}$/.exec(message)?.[0]),
  };
  if (!isTransient(code, status)) return permanent("database_refused", facts);
  return transient("database_unavailable", {
    ...facts,
    ...present(
      "code",
      status === 0 ? /\((E[A-Z_]+|UND_ERR_\w+)\)/.exec(details ?? "")?.[1] : undefined,
    ),
    ...present("retryAfterMs", retryAfterMs),
  });
}

/**
 * Serialization failure, deadlock, lock not available, statement cancelled, no room or connections, shutting down,
 * connection lost; and PostgREST without a database.
 */
const TRANSIENT_STATE = /^(40001|40P01|55P03|57014|53...|57P0.|08...|PGRST00[0-3])$/;
/** Data, constraints, SQL itself and what our functions raise: the same call fails again, whatever the HTTP status. */
const PERMANENT_STATE = /^(22|23|42|P0)...$/;

function isTransient(sqlstate: string, status: number): boolean {
  if (TRANSIENT_STATE.test(sqlstate)) return true;
  if (PERMANENT_STATE.test(sqlstate)) return false;
  // Below 400 there was no answer, or one that is not JSON: some proxy's page.
  return status < 400 || status === 408 || status === 429 || status >= 500;
}

const present = <T extends string | number>(name: string, value: T | undefined) =>
  value === undefined ? {} : { [name]: value };
