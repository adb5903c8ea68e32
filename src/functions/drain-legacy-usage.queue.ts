import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { parseMessage } from "../lib/runtime/parse-message.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { drainLegacy } from "../lib/usage/legacy/drain-legacy.ts";
import { LegacyMessageSchema } from "../lib/usage/legacy/legacy-message.ts";
import { WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Books what older producers left behind. Idempotency: the id of each use, and the remembered value of each counter. */
app.storageQueue("drainLegacyUsage", {
  connection: "AzureWebJobsStorage",
  queueName: WORK_QUEUES.usageLegacy,
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () =>
        drainLegacy(services(), parseMessage(LegacyMessageSchema, raw), run),
      ),
    ),
});
