import { limitCalls } from "../kernel/deadline.ts";
import { transient } from "../kernel/errors.ts";
import { retryAfterMs } from "../kernel/retry.ts";
import { rpcError } from "./classify-error.supabase.ts";

/**
 * One SQL function call, one transaction. Resolves to what the function returned, parsed from JSON and unchecked; null
 * for `void`. Not repeated: a call that ended with a transient error may have been committed.
 *
 * Errors: `database_unavailable` (transient) · `database_refused` (permanent), with `details.fn`, `status`,
 * `sqlstate`, `constraint` and `reason` where there are any · `deadline_exceeded`.
 */
export type Rpc = (
  fn: string,
  args: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
) => Promise<unknown>;

export interface RpcOptions {
  readonly url: string;
  /** The service role's. */
  readonly key: string;
  readonly schema?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Longer than the 8 s that hosted databases give a statement, so that the database says what was too slow. */
const DATABASE_TIMEOUT_MS = 10_000;
const CALLS_IN_FLIGHT_MAX = 1000;

/** Calls functions of `schema` through PostgREST. The client is built on first use and holds no connection. */
export function createRpc(options: RpcOptions): { rpc: Rpc; close(): Promise<void> } {
  const { timeoutMs = DATABASE_TIMEOUT_MS } = options;
  const unavailable = (code: string) => transient("database_unavailable", { code });
  const calls = limitCalls({ timeoutMs, inFlightMax: CALLS_IN_FLIGHT_MAX, unavailable });
  const patience = rememberRetryAfter();
  let client: ReturnType<typeof createClient> | undefined;
  return {
    rpc: (fn, args, signal) =>
      calls.run(signal, async (own) => {
        client ??= createClient(options, patience.fetch);
        const { data, error, status } = await (await client).rpc(fn, args).abortSignal(own);
        if (error === null) return data;
        throw rpcError({ fn, status, error, retryAfterMs: patience.of(own) });
      }),
    close: async () => calls.close(),
  };
}

async function createClient(
  { url, key, schema = "worker" }: RpcOptions,
  fetch: typeof globalThis.fetch,
) {
  const supabase = await import("@supabase/supabase-js");
  return supabase.createClient(url, key, {
    db: { schema },
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: { fetch },
  });
}

/** The client hides the headers of an answer, so the wait that a peer asked for is kept by the signal of its call. */
function rememberRetryAfter() {
  const asked = new WeakMap<AbortSignal, number>();
  return {
    fetch: async (...[input, init]: Parameters<typeof fetch>) => {
      const response = await fetch(input, init);
      const waitMs = retryAfterMs(response.headers);
      if (waitMs !== undefined && init?.signal) asked.set(init.signal, waitMs);
      return response;
    },
    of: (signal: AbortSignal) => asked.get(signal),
  };
}
