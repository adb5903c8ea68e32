import type { DequeuedMessageItem } from "@azure/storage-queue";
import { processMessage, type QueueMessageDeps } from "./queue-message.ts";
import { statusOf } from "./storage-queues.ts";

const FIRST_POLL_MS = 100;
/** Of a pause, so that several listeners do not poll in step. */
const JITTER = 0.2;

export interface QueueListenerDeps extends QueueMessageDeps {
  readonly maxPollingMs: number;
  /** A stop waits for it: a message is not done before it is deleted. */
  readonly track: <T>(work: Promise<T>) => Promise<T>;
}

export interface QueueListener {
  readonly queueName: string;
  start(): void;
  /** Polls now: this process wrote to the queue. */
  notify(): void;
  /** Fetches nothing more; resolves when no fetch is under way. Messages already fetched go on. */
  stop(): Promise<void>;
}

/**
 * Polls one queue for one function. Fetches a batch whenever no more than `newBatchThreshold` messages are being
 * worked on, so that up to `batchSize + newBatchThreshold` run at the same time.
 */
export function createQueueListener(deps: QueueListenerDeps): QueueListener {
  const { newBatchThreshold } = deps.settings;
  const pause = createPause();
  const busy = new Set<Promise<void>>();
  const receive = createReceiver(deps);
  let isStopped = false;
  let loop = Promise.resolve();

  const begin = (message: DequeuedMessageItem) => {
    const work: Promise<void> = deps
      .track(processMessage(deps, message))
      .catch((error) => logFailure(deps, message, error))
      .finally(() => {
        busy.delete(work);
        pause.end();
      });
    busy.add(work);
  };
  const poll = async () => {
    const firstPauseMs = Math.min(FIRST_POLL_MS, deps.maxPollingMs);
    let pauseMs = firstPauseMs;
    while (!isStopped) {
      const messages = await receive();
      messages.forEach(begin);
      if (messages.length === 0) {
        await pause.wait(pauseMs);
        pauseMs = Math.min(pauseMs * 2, deps.maxPollingMs);
      } else pauseMs = firstPauseMs;
      while (busy.size > newBatchThreshold && !isStopped) await pause.wait(deps.maxPollingMs);
    }
  };
  return {
    queueName: deps.queue.name,
    start: () => {
      loop = poll();
    },
    notify: pause.end,
    stop: async () => {
      isStopped = true;
      pause.end();
      await loop;
    },
  };
}

function logFailure(deps: QueueMessageDeps, { messageId }: DequeuedMessageItem, error: unknown) {
  const text = `Message ${messageId} comes back when its lease ends: ${String(error)}`;
  deps.log("error", text, { functionName: deps.functionName });
}

/** A wait that can be cut short. One that is ended before it begins does not begin. */
function createPause(): { wait(ms: number): Promise<void>; end(): void } {
  let isEnded = false;
  let wake = () => {};
  return {
    wait: async (ms) => {
      const jittered = ms * (1 - JITTER + Math.random() * 2 * JITTER);
      if (!isEnded) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, jittered);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      isEnded = false;
    },
    end: () => {
      isEnded = true;
      wake();
    },
  };
}

/** Fetches one batch. Trouble is logged when it begins and when it ends, not at every poll. */
function createReceiver(deps: QueueListenerDeps): () => Promise<DequeuedMessageItem[]> {
  const { queue, settings, leaseSeconds, functionName, log } = deps;
  let trouble: string | undefined;
  const note = (now: string | undefined) => {
    if (now !== trouble)
      log(now === undefined ? "information" : "warning", now ?? `Queue '${queue.name}' is back.`, {
        functionName,
      });
    trouble = now;
  };
  return async () => {
    try {
      const { receivedMessageItems } = await queue.receiveMessages({
        numberOfMessages: settings.batchSize,
        visibilityTimeout: leaseSeconds,
      });
      note(undefined);
      return receivedMessageItems;
    } catch (error) {
      note(
        statusOf(error) === 404
          ? `Queue '${queue.name}' does not exist. The host polls until it does; it creates no trigger queue.`
          : `Queue '${queue.name}' cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      );
      return [];
    }
  };
}
