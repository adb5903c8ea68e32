import type { QueueSender } from "../runtime/queue-sender.storage.ts";
import type { JobQueue } from "./job-ledger.ts";

export const JOB_QUEUE = "job-runs";

export const jobQueue = (sender: QueueSender): JobQueue => ({
  send: (message, delayMs, signal) =>
    sender.send(JOB_QUEUE, message, { delaySeconds: delayMs / 1000 }, signal),
});
