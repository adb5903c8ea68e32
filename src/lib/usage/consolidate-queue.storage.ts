import type { QueueSender } from "../runtime/queue-sender.storage.ts";
import type { ConsolidationQueue } from "./consolidate-shard.ts";
import { messageQueue } from "./shard-queue.storage.ts";

export const CONSOLIDATION_QUEUE = "usage-consolidations";

export const consolidationQueue = (sender: QueueSender): ConsolidationQueue =>
  messageQueue(sender, CONSOLIDATION_QUEUE);
