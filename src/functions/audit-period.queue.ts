import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { parseMessage } from "../lib/runtime/parse-message.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { AuditMessageSchema } from "../lib/usage/audit-message.ts";
import { auditPeriod } from "../lib/usage/audit-period.ts";
import { WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Goes on with an audit. Idempotency: its progress moves with its findings. */
app.storageQueue("auditPeriod", {
  connection: "AzureWebJobsStorage",
  queueName: WORK_QUEUES.usageAudits,
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () =>
        auditPeriod(services(), parseMessage(AuditMessageSchema, raw), run),
      ),
    ),
});
