import type { QueueSender } from "../../runtime/queue-sender.storage.ts";
import type { LegacyQueue } from "./drain-legacy.ts";

export const LEGACY_QUEUE = "usage-legacy";

export const legacyQueue = (sender: QueueSender): LegacyQueue => ({
  send: (message, signal) => sender.send(LEGACY_QUEUE, message, {}, signal),
});
