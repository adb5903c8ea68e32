import { retryAfterMs } from "../kernel/retry.ts";
import type { SendOutcome } from "./alert-notifications.ts";

export type Fetch = typeof fetch;

/** Enough for the reason in words; the answer of a hook is never kept. */
const ANSWER_MAX = 2000;

/**
 * Posts one message to an incoming webhook. The address is a secret and appears in no outcome.
 *
 * @param refuses whether an answer below 400 means that the message did not get through after all.
 */
export async function postMessage(
  { url, fetch }: { readonly url: string; readonly fetch: Fetch },
  payload: unknown,
  signal: AbortSignal,
  refuses: (answer: string) => boolean = () => false,
): Promise<SendOutcome> {
  let response: Response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(payload),
      redirect: "manual", // a hook that moved is not followed: the message would go to whoever says so
      signal,
    });
  } catch (error) {
    return lostOutcome(error);
  }
  const answer = await response.text().then(
    (text) => text.slice(0, ANSWER_MAX),
    () => "",
  );
  return judge(response, refuses(answer));
}

function judge({ status, headers }: Response, isRefused: boolean): SendOutcome {
  const error = `http_${status}`;
  if (status < 300)
    return isRefused ? { kind: "failed", error: "answer_failed" } : { kind: "sent" };
  // A gateway that waited in vain does not know what happened behind it.
  if (status === 408 || status === 504) return { kind: "unknown", error };
  if (status === 429 || status >= 500)
    return { kind: "failed", error, retryAfterMs: retryAfterMs(headers) };
  return { kind: "refused", error };
}

/** Before a connection stood nothing was sent; after that nobody knows. */
const NOT_SENT =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT|ERR_TLS_\w+|ERR_SSL_\w+|CERT_\w+|\w+_CERT\w*|DEPTH_ZERO_\w+|UNABLE_TO_\w+)$/;

function lostOutcome(error: unknown): SendOutcome {
  const cause: unknown = error instanceof Error ? error.cause : undefined;
  const code = String((cause as { code?: unknown } | undefined)?.code ?? "lost");
  return NOT_SENT.test(code) ? { kind: "failed", error: code } : { kind: "unknown", error: code };
}
