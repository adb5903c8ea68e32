import { callWithin } from "../../kernel/deadline.ts";
import { AppError, permanent, transient } from "../../kernel/errors.ts";
import { retryAfterMs } from "../../kernel/retry.ts";

export interface Deployment {
  /** Such as https://name.openai.azure.com. */
  readonly endpoint: string;
  readonly deployment: string;
  readonly dimensions: number;
}

/** `api-key` or `authorization`, for one call. */
export type Credentials = (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;

/** Either the body of a good reply, or the 400 of inputs that the service does not take. */
export type Answer =
  | { readonly kind: "body"; readonly body: string }
  | { readonly kind: "inputs_refused"; readonly code: string };

const API_VERSION = "2024-10-21";
const CALL_TIMEOUT_MS = 30_000;
/** 128 vectors of 1536 dimensions have about one megabyte. */
const REPLY_BYTES_MAX = 16_777_216;
/** Longer waits are given back to whoever schedules the work. */
const WAIT_MAX_MS = 3_600_000;
/** What a 400 says about the call itself: no other input would make it better. */
const ABOUT_THE_CALL =
  /dimensions|encoding_format|api[-_ ]?version|\bmodel\b.*(support|exist)|deployment/i;

/**
 * One call of the embeddings of a deployment.
 *
 * @throws AppError transient `embedder_unavailable` with `retryAfterMs` when the service named a wait; permanent
 * `embedder_refused` for everything that another attempt or other texts do not change.
 */
export function requestEmbeddings(
  { endpoint, deployment, dimensions }: Deployment,
  credentials: Credentials,
  input: readonly string[],
  signal: AbortSignal,
): Promise<Answer> {
  const base = endpoint.replace(/\/+$/, "");
  const url = `${base}/openai/deployments/${encodeURIComponent(deployment)}/embeddings?api-version=${API_VERSION}`;
  const body = JSON.stringify({ input, dimensions, encoding_format: "base64" });
  const timedOut = () => transient("embedder_unavailable", { reason: "TIMEOUT" });
  return callWithin({ signal, timeoutMs: CALL_TIMEOUT_MS, timedOut }, async (within) => {
    const headers = { "content-type": "application/json", ...(await credentials(within)) };
    // A redirect would take the key to an address that nobody configured.
    const init = { method: "POST", redirect: "manual", headers, body, signal: within } as const;
    const response = await orUnavailable(() => fetch(url, init));
    const text = await orUnavailable(() => readText(response));
    return response.ok ? { kind: "body", body: text } : judge(response, text);
  });
}

async function orUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw transient("embedder_unavailable", { reason: "NETWORK" }, error);
  }
}

async function readText(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > REPLY_BYTES_MAX)
      throw transient("embedder_unavailable", { reason: "REPLY_TOO_LARGE" });
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function judge({ status, headers }: Response, body: string): Answer {
  const { code, about } = parseError(body);
  if (status === 400 && !ABOUT_THE_CALL.test(about)) return { kind: "inputs_refused", code };
  if (status === 408 || status === 409 || status === 429 || status >= 500) {
    const wait = waitOf(headers);
    throw transient("embedder_unavailable", {
      status,
      reason: code,
      ...(wait === undefined ? {} : { retryAfterMs: wait }),
    });
  }
  throw permanent("embedder_refused", { status, reason: code });
}

/** The finer header first; both mean from now on. */
function waitOf(headers: Headers): number | undefined {
  const ms = headers.get("retry-after-ms")?.trim() ?? "";
  return /^\d{1,9}$/.test(ms) ? Math.min(Number(ms), WAIT_MAX_MS) : retryAfterMs(headers);
}

const CODE_CHARACTERS_MAX = 60;

/** The message may quote the input, so only the code leaves this file. */
function parseError(body: string): { code: string; about: string } {
  const { error } = asRecord(tryJson(body));
  const { code, param, message } = asRecord(error);
  const name = typeof code === "string" && /^[\w.-]+$/.test(code) ? code : "none";
  return {
    code: name.slice(0, CODE_CHARACTERS_MAX),
    about: typeof param === "string" ? param : typeof message === "string" ? message : "",
  };
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const asRecord = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
