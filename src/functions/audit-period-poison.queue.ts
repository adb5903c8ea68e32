import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { settlePoisonedAudit } from "../lib/usage/settle-poisoned-audit.ts";
import { poisonQueueOf, WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Takes audit messages that the platform gave up on into our books. Safe to run twice. */
app.storageQueue("auditPeriodPoison", {
  connection: "AzureWebJobsStorage",
  queueName: poisonQueueOf(WORK_QUEUES.usageAudits),
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () => settlePoisonedAudit(services(), raw, run)),
    ),
});
