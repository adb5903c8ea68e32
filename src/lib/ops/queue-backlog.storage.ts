import type { QueueServiceClient } from "@azure/storage-queue";
import { limitCalls } from "../kernel/deadline.ts";
import { permanent, transient } from "../kernel/errors.ts";
import type { QueuePeeks } from "./queue-backlog.ts";

const PEEK_TIMEOUT_MS = 5000;
const CALLS_IN_FLIGHT_MAX = 50;

/** Errors: `queue_unavailable` (transient) · `queue_refused` (permanent) · `deadline_exceeded`. */
export function queuePeeks({
  connectionString,
}: {
  readonly connectionString: string;
}): QueuePeeks {
  const unavailable = (code: string) => transient("queue_unavailable", { code });
  const calls = limitCalls({
    timeoutMs: PEEK_TIMEOUT_MS,
    inFlightMax: CALLS_IN_FLIGHT_MAX,
    unavailable,
  });
  let service: Promise<QueueServiceClient> | undefined;
  return {
    peek: (queue, signal) =>
      calls.run(signal, async (abortSignal) => {
        service ??= createService(connectionString);
        const client = (await service).getQueueClient(queue);
        try {
          const [properties, { peekedMessageItems }] = await Promise.all([
            client.getProperties({ abortSignal }),
            client.peekMessages({ numberOfMessages: 1, abortSignal }),
          ]);
          return {
            messages: properties.approximateMessagesCount ?? 0,
            oldestAt: peekedMessageItems[0]?.insertedOn.getTime(),
          };
        } catch (error) {
          if (statusOf(error) === 404) return undefined;
          throw peekError(queue, error);
        }
      }),
  };
}

async function createService(connectionString: string): Promise<QueueServiceClient> {
  const { QueueServiceClient } = await import("@azure/storage-queue");
  const retryOptions = { maxTries: 2, retryDelayInMs: 100, tryTimeoutInMs: PEEK_TIMEOUT_MS };
  return QueueServiceClient.fromConnectionString(connectionString, { retryOptions });
}

const statusOf = (error: unknown): number | undefined =>
  (error as { statusCode?: number } | undefined)?.statusCode;

function peekError(queue: string, error: unknown): Error {
  const status = statusOf(error);
  const isTransient = status === undefined || status === 408 || status === 429 || status >= 500;
  return isTransient
    ? transient("queue_unavailable", { queue, status })
    : permanent("queue_refused", { queue, status });
}
