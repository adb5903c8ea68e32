import type { QueueSender } from "../runtime/queue-sender.storage.ts";
import type { ShardQueue } from "./reconcile-shard.ts";

export const SHARD_QUEUE = "usage-shards";

export const shardQueue = (sender: QueueSender): ShardQueue => ({
  send: async (messages, delaySeconds, signal) => {
    const [only, ...others] = messages;
    if (only === undefined) return;
    if (others.length === 0) return sender.send(SHARD_QUEUE, only, { delaySeconds }, signal);
    await sender.sendAll(SHARD_QUEUE, messages, signal);
  },
});
