import { callWithin } from "../kernel/deadline.ts";
import { permanent, transient } from "../kernel/errors.ts";
import { retryAfterMs } from "../kernel/retry.ts";
import type { StoredObject } from "./stored-object.ts";

/** Until the first byte; the run's own deadline bounds the rest. */
const OPEN_TIMEOUT_MS = 30_000;

export interface SupabaseStorageOptions {
  readonly url: string;
  /** The service role's. */
  readonly key: string;
}

/** Objects in the buckets of Supabase Storage. */
export const supabaseObjects = ({ url, key }: SupabaseStorageOptions) => ({
  open: async (
    { container, path }: { readonly container: string; readonly path: string },
    signal: AbortSignal,
  ): Promise<StoredObject | undefined> => {
    const parts = [container, ...path.split("/")].map(encodeURIComponent).join("/");
    const address = `${url.replace(/\/$/, "")}/storage/v1/object/authenticated/${parts}`;
    const headers = { authorization: `Bearer ${key}`, apikey: key };
    const timedOut = () => transient("blob_unavailable", { code: "TIMEOUT" });
    // The signal of the run, not of the call: the body is read after the call is over.
    const response = await callWithin({ signal, timeoutMs: OPEN_TIMEOUT_MS, timedOut }, () =>
      fetch(address, { headers, signal, redirect: "error" }).catch((error: unknown) => {
        throw transient("blob_unavailable", { code: codeOf(error) });
      }),
    );
    if (response.ok) return { bytes: lengthOf(response), chunks: chunksOf(response) };
    return refused(response);
  },
});

/** Supabase answers 400 with a 404 inside for what is not there. */
async function refused(response: Response): Promise<undefined> {
  const { status } = response;
  const body = (await response.text().catch(() => "")).slice(0, 1000);
  if (status === 404 || (status === 400 && /"(not_found|NoSuchKey)"|"404"/.test(body)))
    return undefined;
  const facts = { storage: "supabase", status };
  if (status === 408 || status === 429 || status >= 500)
    throw transient("blob_unavailable", { ...facts, retryAfterMs: retryAfterMs(response.headers) });
  throw permanent("blob_refused", facts);
}

async function* chunksOf(response: Response): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  try {
    for await (const chunk of response.body) yield chunk;
  } catch (error) {
    throw transient("blob_unavailable", { code: codeOf(error) });
  }
}

/** Unknown when the transport compresses. */
function lengthOf({ headers }: Response): number | undefined {
  const length = headers.get("content-length");
  return length === null || headers.has("content-encoding") ? undefined : Number(length);
}

/** The error itself may hold the address; only its code travels. */
function codeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const code: unknown =
    typeof cause === "object" && cause !== null && "code" in cause ? cause.code : "";
  return typeof code === "string" && /^[A-Z_]{1,40}$/.test(code) ? code : "CONNECTION";
}
