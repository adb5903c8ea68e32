import type { QueueClient } from "@azure/storage-queue";
import type { InvocationResponse } from "./core-types.ts";
import type { QueueSettings } from "./host-json.ts";
import type { HostLog } from "./host-log.ts";
import type { HostedFunction, TriggerOf } from "./hosted-function.ts";
import { encodeMessage } from "./message-encoding.ts";
import { planOutputs } from "./outputs.ts";
import { createQueueListener, type QueueListener } from "./queue-listener.ts";
import type { QueueInput } from "./rpc-data.ts";
import { connectionString, type Environment } from "./settings.ts";
import { sendCreating, storageQueues } from "./storage-queues.ts";

export type QueueFunction = HostedFunction<TriggerOf<"queue">>;

export interface QueueHostOptions {
  readonly listening: readonly QueueFunction[];
  /** Functions with outputs; their connections are judged at once, not at the first run. */
  readonly writing: readonly HostedFunction[];
  readonly settings: QueueSettings;
  readonly maxPollingMs: number;
  readonly leaseSeconds: number;
  readonly invoke: (fn: QueueFunction, message: QueueInput) => Promise<unknown>;
  readonly track: <T>(work: Promise<T>) => Promise<T>;
  readonly env: Environment;
  readonly log: HostLog;
}

/** Queue triggers and queue outputs of the app. */
export interface QueueHost {
  /** Starts to poll. */
  start(): void;
  /** Sends what a run returned; a listener here that reads the same queue polls at once. */
  writeOutputs(fn: HostedFunction, response: InvocationResponse): Promise<void>;
  /** Fetches nothing more. */
  stop(): Promise<void>;
}

/** @throws StartError when a connection is not set. */
export function createQueueHost(options: QueueHostOptions): QueueHost {
  const { settings, env } = options;
  const storage = storageQueues();
  const open: OpenQueue = (connection, name) =>
    storage.client(connectionString(connection, env), name);
  const listeners = options.listening.map((fn) => createListener(options, open, fn));
  for (const { connection, queueName } of options.writing.flatMap((fn) => fn.queueOutputs)) {
    open(connection, queueName);
  }
  return {
    start: () => {
      for (const listener of listeners) listener.start();
    },
    writeOutputs: async (fn, response) => {
      for (const { connection, queueName, body } of planOutputs(fn, response)) {
        const text = encodeMessage(body, settings.messageEncoding);
        await sendCreating(open(connection, queueName), text);
        for (const listener of listeners) if (listener.queueName === queueName) listener.notify();
      }
    },
    stop: async () => {
      await Promise.all(listeners.map((listener) => listener.stop()));
    },
  };
}

type OpenQueue = (connection: string, name: string) => QueueClient;

function createListener(
  { settings, maxPollingMs, leaseSeconds, invoke, track, log }: QueueHostOptions,
  open: OpenQueue,
  fn: QueueFunction,
): QueueListener {
  const { connection, queueName } = fn.trigger;
  const poisonName = poisonNameOf(queueName);
  return createQueueListener({
    functionName: fn.name,
    queue: open(connection, queueName),
    poison: poisonName === undefined ? undefined : open(connection, poisonName),
    settings,
    maxPollingMs,
    leaseSeconds,
    invoke: (message) => invoke(fn, message),
    track,
    log,
  });
}

const POISON_SUFFIX = "-poison";
const QUEUE_NAME_MAX = 63;

/** A poison queue has none of its own, and neither has a queue whose name leaves no room. */
function poisonNameOf(queueName: string): string | undefined {
  const name = `${queueName}${POISON_SUFFIX}`;
  return queueName.endsWith(POISON_SUFFIX) || name.length > QUEUE_NAME_MAX ? undefined : name;
}
