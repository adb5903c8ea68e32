import type { QueueServiceClient } from "@azure/storage-queue";
import { limitCalls } from "../kernel/deadline.ts";
import { AppError, invariant, permanent, transient } from "../kernel/errors.ts";
import { retryAfterMs } from "../kernel/retry.ts";

/**
 * Sends messages to queues that exist; it creates none. A message may arrive twice, as queues deliver at least once
 * anyway. Messages are objects with ids and a version, never content.
 *
 * Errors: `queue_unavailable` (transient) · `queue_refused` (permanent), with `details.queue`, `status` and the `code`
 * of the service, such as QueueNotFound; `MESSAGE_TOO_LARGE` before anything is sent · `deadline_exceeded`.
 */
export interface QueueSender {
  /** @param options.delaySeconds how long the message stays invisible, 0 (default) to 604800. */
  send(
    queue: string,
    message: object,
    options: { readonly delaySeconds?: number | undefined },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Sends all, a few at a time. When some fail the others are still sent, and it throws once: transient if any of them
   * may work later, with `details.sent` and `details.failed`.
   */
  sendAll(queue: string, messages: readonly object[], signal: AbortSignal): Promise<void>;
}

export interface QueueSenderOptions {
  readonly connectionString: string;
  /** Longest time of one message, repetitions included. */
  readonly timeoutMs?: number | undefined;
}

const QUEUE_TIMEOUT_MS = 10_000;
const CALLS_IN_FLIGHT_MAX = 1000;
const SENDS_AT_ONCE = 16;
/** 64 KiB after base64, which is how the host reads messages. */
const MESSAGE_BYTES_MAX = 48 * 1024;
const DELAY_SECONDS_MAX = 7 * 24 * 3600;
/** Messages do not expire: what is sent is worked on or ends in our books. */
const NEVER_EXPIRES = -1;

export function createQueueSender(options: QueueSenderOptions): QueueSender {
  const { connectionString, timeoutMs = QUEUE_TIMEOUT_MS } = options;
  const unavailable = (code: string) => transient("queue_unavailable", { code });
  const calls = limitCalls({ timeoutMs, inFlightMax: CALLS_IN_FLIGHT_MAX, unavailable });
  let service: Promise<QueueServiceClient> | undefined;

  const send: QueueSender["send"] = async (queue, message, { delaySeconds = 0 }, signal) => {
    const text = encode(queue, message);
    invariant(delaySeconds >= 0 && delaySeconds <= DELAY_SECONDS_MAX, "a delay is at most 7 days");
    await calls.run(signal, async (abortSignal) => {
      service ??= createService(connectionString, timeoutMs);
      const client = (await service).getQueueClient(queue);
      const visibilityTimeout = Math.ceil(delaySeconds);
      const when = { visibilityTimeout, messageTimeToLive: NEVER_EXPIRES, abortSignal };
      await client.sendMessage(text, when).catch((error) => {
        throw sendError(queue, error);
      });
    });
  };

  const sendAll: QueueSender["sendAll"] = async (queue, messages, signal) => {
    const failures: AppError[] = [];
    const waiting = messages.values();
    const work = async () => {
      for (const message of waiting) {
        const failure = await failureOf(send(queue, message, {}, signal));
        if (failure !== undefined) failures.push(failure);
      }
    };
    await Promise.all(Array.from({ length: SENDS_AT_ONCE }, work));
    if (failures.length > 0) throw summary(queue, messages.length, failures);
  };
  return { send, sendAll };
}

/** A string that cannot be read is our setting's fault; the error that says so quotes it. */
async function createService(
  connectionString: string,
  timeoutMs: number,
): Promise<QueueServiceClient> {
  const { QueueServiceClient } = await import("@azure/storage-queue");
  const retryOptions = {
    maxTries: 3,
    retryDelayInMs: 100,
    maxRetryDelayInMs: 1000,
    tryTimeoutInMs: timeoutMs,
  };
  try {
    return QueueServiceClient.fromConnectionString(connectionString, { retryOptions });
  } catch {
    const reason = "is not a storage connection string";
    throw permanent("config_invalid", { field: "AzureWebJobsStorage", reason });
  }
}

function encode(queue: string, message: object): string {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length <= MESSAGE_BYTES_MAX) return bytes.toString("base64");
  const sizes = { bytes: bytes.length, bytesMax: MESSAGE_BYTES_MAX };
  throw permanent("queue_refused", { queue, code: "MESSAGE_TOO_LARGE", ...sizes });
}

interface ServiceError {
  readonly statusCode?: number;
  readonly code?: string;
  readonly response?: { readonly headers: { get(name: string): string | undefined } };
}

/** The error itself does not travel: it holds the request, with its signature and the message. */
function sendError(queue: string, error: unknown): AppError {
  const { statusCode, code, response } = (error ?? {}) as ServiceError;
  const facts = { queue, status: statusCode, code };
  const isTransient =
    statusCode === undefined || statusCode === 408 || statusCode === 429 || statusCode >= 500;
  if (!isTransient) return permanent("queue_refused", facts);
  const waitMs = response === undefined ? undefined : retryAfterMs(response.headers);
  return transient("queue_unavailable", { ...facts, retryAfterMs: waitMs });
}

async function failureOf(sending: Promise<void>): Promise<AppError | undefined> {
  try {
    await sending;
    return undefined;
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
}

function summary(queue: string, total: number, failures: readonly AppError[]): AppError {
  const worst = failures.find(({ kind }) => kind === "transient") ?? failures[0];
  invariant(worst !== undefined, "a summary has a failure");
  const counts = { queue, sent: total - failures.length, failed: failures.length };
  return new AppError(worst.kind, worst.code, { details: { ...worst.details, ...counts } });
}
