import { type AppError, permanent, transient } from "../kernel/errors.ts";

const MESSAGE_MAX = 200;

/** First words of replies that may go away: Redis starts, fails over, is full, or somebody hogs it. */
const TRANSIENT_WORDS = new Set([
  "LOADING",
  "BUSY",
  "MASTERDOWN",
  "CLUSTERDOWN",
  "TRYAGAIN",
  "READONLY",
  "OOM",
  "MISCONF",
  "NOREPLICAS",
  "GATEWAY",
  "NOSCRIPT", // only after EVAL was tried: somebody flushes the scripts all the time
]);

/** Replies that start with the generic ERR and may go away all the same. */
const TRANSIENT_ERR =
  /^ERR (max number of clients|max (daily )?requests? limit|max concurrent|upstream\b)/i;

/** Names that the clients give to an error that is Redis' answer. */
const REPLY_ERRORS = new Set(["ReplyError", "UpstashError"]);

/** What a client threw: an error reply, or a sign that there was none. */
export function clientError(error: unknown): AppError {
  const isReply = error instanceof Error && REPLY_ERRORS.has(error.name);
  return isReply ? replyError(error.message) : connectionError(error);
}

/**
 * Classifies an error reply by its first word. What Redis said no to is refused, unless the reason may pass. A text
 * without such a word is not Redis' own: some gateway answered.
 */
export function replyError(text: string): AppError {
  const message = redact(text);
  const code = /^[A-Z][A-Z0-9_]*(?=\s|$)/.exec(message)?.[0] ?? gatewayCode(message);
  const mayPass = TRANSIENT_WORDS.has(code) || TRANSIENT_ERR.test(message);
  const error = mayPass ? transient : permanent;
  return error(mayPass ? "redis_unavailable" : "redis_refused", { code, message });
}

const gatewayCode = (message: string): string =>
  /^unauthori[sz]ed/i.test(message) ? "WRONGPASS" : "GATEWAY";

/**
 * No answer, or none that can be understood. `code` is that of the socket or the client, such as ECONNRESET. The error
 * itself does not travel: clients attach the command, and with it the data.
 */
export function connectionError(error: unknown): AppError {
  const { code, message } = innermost(error);
  const word = typeof code === "string" ? code : "CONNECTION_LOST";
  const text = typeof message === "string" ? redact(message) : undefined;
  return transient("redis_unavailable", { code: word, message: text });
}

/** Redis quotes arguments in some messages, and the REST client appends the whole command. */
function redact(text: string): string {
  const [own = ""] = text.split(/, command was:|, with args beginning with:/);
  return own.replace(/'[^']*'|`[^`]*`|"[^"]*"/g, "'…'").slice(0, MESSAGE_MAX);
}

const CAUSES_MAX = 3;

/** `fetch` hides the error of the socket one or two causes down. */
function innermost(error: unknown): { code?: unknown; message?: unknown } {
  let inner = asObject(error);
  for (let depth = 0; depth < CAUSES_MAX && inner.cause instanceof Error; depth++)
    inner = inner.cause;
  return inner;
}

const asObject = (value: unknown): { code?: unknown; message?: unknown; cause?: unknown } =>
  typeof value === "object" && value !== null ? value : {};
