import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { settlePoisonedLegacy } from "../lib/usage/legacy/settle-poisoned-legacy.ts";
import { poisonQueueOf, WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Takes drains that the platform gave up on into our books. Safe to run twice. */
app.storageQueue("drainLegacyUsagePoison", {
  connection: "AzureWebJobsStorage",
  queueName: poisonQueueOf(WORK_QUEUES.usageLegacy),
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () => settlePoisonedLegacy(services(), raw, run)),
    ),
});
