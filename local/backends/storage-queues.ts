import { StartError } from "./start-error.ts";

const CREATE_WITHIN_MS = 10_000;

/** Creates the queues that do not exist yet. */
export async function createQueues(
  connectionString: string,
  names: readonly string[],
): Promise<void> {
  const { QueueServiceClient } = await import("@azure/storage-queue"); // heavy, and not needed before
  const service = QueueServiceClient.fromConnectionString(connectionString);
  const abortSignal = AbortSignal.timeout(CREATE_WITHIN_MS);
  const create = async (name: string): Promise<void> => {
    try {
      await service.getQueueClient(name).createIfNotExists({ abortSignal });
    } catch (error) {
      throw new StartError(`The storage queue ${name} could not be created: ${String(error)}`);
    }
  };
  await Promise.all(names.map(create));
}
