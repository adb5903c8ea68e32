import type { QueueSender } from "../runtime/queue-sender.storage.ts";
import type { AuditQueue } from "./audit-start.ts";

export const AUDIT_QUEUE = "usage-audits";

export const auditQueue = (sender: QueueSender): AuditQueue => ({
  send: (message, delaySeconds, signal) =>
    sender.send(AUDIT_QUEUE, message, { delaySeconds }, signal),
});
