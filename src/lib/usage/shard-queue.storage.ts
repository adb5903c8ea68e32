import type { QueueSender } from "../runtime/queue-sender.storage.ts";
import type { ShardQueue } from "./reconcile-shard.ts";

export const SHARD_QUEUE = "usage-shards";

export const shardQueue = (sender: QueueSender): ShardQueue => messageQueue(sender, SHARD_QUEUE);

/** One message can be delayed; several are sent at once. */
export const messageQueue = (sender: QueueSender, queue: string) => ({
  send: async (messages: readonly object[], delaySeconds: number, signal: AbortSignal) => {
    const [only, ...others] = messages;
    if (only === undefined) return;
    if (others.length === 0) return sender.send(queue, only, { delaySeconds }, signal);
    await sender.sendAll(queue, messages, signal);
  },
});
