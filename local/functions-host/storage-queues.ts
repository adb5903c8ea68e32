import { type QueueClient, QueueServiceClient } from "@azure/storage-queue";

/** The listener itself tries again; these only bridge a hiccup. */
const TRIES_MAX = 3;
const RETRY_DELAY_MS = 200;
const RETRY_DELAY_MAX_MS = 1000;
const CALL_TIMEOUT_MS = 10_000;

/** The queues of this process, one client for each storage account. */
export interface StorageQueues {
  client(connectionString: string, queueName: string): QueueClient;
}

export function storageQueues(): StorageQueues {
  const services = new Map<string, QueueServiceClient>();
  return {
    client: (connectionString, queueName) => {
      const service = services.get(connectionString) ?? openService(connectionString);
      services.set(connectionString, service);
      return service.getQueueClient(queueName);
    },
  };
}

const openService = (connectionString: string): QueueServiceClient =>
  QueueServiceClient.fromConnectionString(connectionString.trim(), {
    retryOptions: {
      maxTries: TRIES_MAX,
      tryTimeoutInMs: CALL_TIMEOUT_MS,
      retryDelayInMs: RETRY_DELAY_MS,
      maxRetryDelayInMs: RETRY_DELAY_MAX_MS,
    },
  });

/** Creates the queue when it is missing: the host does so for outputs and poison queues, not for triggers. */
export async function sendCreating(queue: QueueClient, text: string): Promise<void> {
  try {
    await queue.sendMessage(text);
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
    await queue.createIfNotExists();
    await queue.sendMessage(text);
  }
}

export function statusOf(error: unknown): number | undefined {
  const status = (error as { statusCode?: unknown }).statusCode;
  return typeof status === "number" ? status : undefined;
}
